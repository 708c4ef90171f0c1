"""What `docs/tasks.md` says that each Monitor explains of each task it explains, and what it refuses it refuses so."""

import re
from pathlib import Path

import pytest
import torch
from every_task import NAMES, made
from lightning.pytorch import LightningModule
from tiny import quiet_trainer
from torch.utils.data import DataLoader, Dataset

import lightning_interpret
from lightning_interpret import (
    AttentionMonitor,
    BadCaseMonitor,
    ConceptActivationVectors,
    ConceptMonitor,
    HierarchyMonitor,
    InfluenceMonitor,
    NeighborMonitor,
    SaliencyMonitor,
    TrustMonitor,
)
from lightning_interpret.causes import Setting
from lightning_interpret.methods.hierarchy import MaskedLanguageModel, SamplingAndOcclusion

PAGE = Path(__file__).parent.parent / "docs" / "tasks.md"
FEW = ConceptActivationVectors(least=6, examples=6, vectors=2, random_concepts=4)


def table(first):
    """Return the rows of the table whose first column has this name, a dict a row."""
    lines = iter(PAGE.read_text().splitlines())
    head = next(line for line in lines if line.startswith(f"| {first} |"))
    names = [cell.strip().strip("`") for cell in head.strip("|").split("|")]
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        rows.append(dict(zip(names, cells, strict=True)))
    return rows


TABLE = {row["task"].strip("`"): row for row in table("task")}
MONITORS = {
    "SaliencyMonitor": lambda data, **options: SaliencyMonitor("gradient_times_input", **options),
    "InfluenceMonitor": lambda data, **options: InfluenceMonitor(
        "gradient_similarity", train_data=data, queries="fixed", **options
    ),
    "NeighborMonitor": lambda data, **options: NeighborMonitor(train_data=data, queries="fixed", **options),
    "AttentionMonitor": lambda data, **options: AttentionMonitor(**options),
    "HierarchyMonitor": lambda data, **options: HierarchyMonitor(**options),
    "TrustMonitor": lambda data, **options: TrustMonitor(["gradient_times_input", "gradient"], orders=1, **options),
    "ConceptMonitor": lambda data, **options: ConceptMonitor(
        {"great": {"words": ["great"]}}, FEW, class_examples=4, **options
    ),
    "BadCaseMonitor": lambda data, **options: BadCaseMonitor(
        Setting(unsure_below=1.0, words=1), method="gradient_times_input", scan=2, train_data=data, **options
    ),
}


class Rows(Dataset):
    """The examples of a batch, each many times."""

    def __init__(self, batch, size=24):
        self.batch, self.size = batch, size

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        row = {name: part[i % 2] for name, part in self.batch.items() if isinstance(part, torch.Tensor)}
        return row | {"example_id": i}


class Held(LightningModule):
    """A module with a model in it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def training_step(self, batch, batch_idx):
        raise AssertionError("training has begun")

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def refused(cell):
    """Return the words of a refusal; None of what is explained."""
    found = re.fullmatch(r'no: "(.*)"', cell)
    return found and found[1]


def held(task_name):
    """Return a module, its task and a data set, with as many examples as concepts need."""
    model, task, batch = made(task_name)
    return Held(model), task, Rows(batch)


def test_the_page_has_every_task_and_the_monitors_that_read_it():
    assert tuple(TABLE) == NAMES
    assert set(MONITORS) <= set(next(iter(TABLE.values())))


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_of_a_task_is_as_the_page_says(name, tmp_path):
    module, task, data = held(name)
    cells = {monitor: refused(TABLE[name][monitor]) for monitor in MONITORS}
    options = {"task": task, "probes": 1, "on_error": "raise", "max_seconds": None}
    output = {"HierarchyMonitor": {"output": "logit"}} if name == "Regression" else {}
    accepted = []
    for monitor, said in cells.items():
        made_of = MONITORS[monitor](data, **options, **output.get(monitor, {}))
        if said is None:
            accepted.append(made_of)
            continue
        with pytest.raises(ValueError, match=re.escape(said)) as error:
            made_of.check(module, task)
        assert monitor in str(error.value)
        assert type(task).__name__ in str(error.value)
        assert "Use " in str(error.value) or "use " in str(error.value)
    for each in accepted:
        each.seen = []
        each.update = lambda metrics, probe, *rows, own=each.update, seen=each.seen: (
            seen.append(rows),
            own(metrics, probe, *rows),
        )
    trainer = quiet_trainer(tmp_path, callbacks=accepted)
    trainer.validate(module, DataLoader(data, batch_size=8), verbose=False)
    known = {key: float(value) for key, value in trainer.callback_metrics.items()}
    for each in accepted:
        assert known[f"interpret/{each.name}_validate/failures"] == 0
        assert len(each.seen) == 1 or isinstance(each, BadCaseMonitor)
    assert {
        f"interpret/{part}_validate/{what}" for part, what in (("attention", "entropy"), ("hierarchy", "depth"))
    } <= {key for key, value in known.items() if value == value}
    assert known["interpret/trust_validate/gradient/comprehensiveness"] == pytest.approx(
        known["interpret/trust_validate/gradient/comprehensiveness"]
    )


@pytest.mark.parametrize("row", table("asked for"), ids=lambda row: f"{row['asked for']}-{row['of']}")
def test_options_are_refused_in_the_words_of_the_page(row):
    known = {name: getattr(lightning_interpret, name) for name in lightning_interpret.__all__} | {
        "SamplingAndOcclusion": SamplingAndOcclusion,
        "MaskedLanguageModel": MaskedLanguageModel,
    }
    monitor = eval(row["asked for"].strip("`"), known)
    module, task, _ = held(row["of"].strip("`"))
    if getattr(monitor, "_method", None) is not None and monitor._method.inside is not None:
        module = module.model
    with pytest.raises(ValueError, match=re.escape(row["refused with"].strip('"'))):
        monitor.check(module, task)


def test_a_refusal_stops_a_fit_before_its_first_step(tmp_path):
    module, task, data = held("CausalGeneration")
    watcher = ConceptMonitor({"great": {"words": ["great"]}}, FEW, task=task)
    loader = DataLoader(data, batch_size=8)
    with pytest.raises(ValueError, match="the written tokens of CausalGeneration are no classes"):
        quiet_trainer(tmp_path, max_epochs=1, callbacks=[watcher]).fit(module, loader, loader)
