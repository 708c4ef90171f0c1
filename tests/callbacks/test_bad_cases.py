"""BadCaseMonitor in an ordinary fit: its curves, its records, its list to relabel, and what it remembers."""

import csv
import json
from types import SimpleNamespace

import pytest
import torch
from blobs import Net, Points, PointsTask
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from meanings import BAD, GOOD, WEIGHTS, MeaningTask, labelled, rows_of, world
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_interpret import BadCaseMonitor
from lightning_interpret.bad_cases import BadCaseGroupRow, BadCaseRow, BadCasesRow
from lightning_interpret.causes import Setting
from lightning_interpret.tasks.encode import encode

TRAIN = [*labelled(15), *rows_of(20, GOOD, 1, also=["tuesday"], seed=5)]
VAL = [
    *rows_of(4, BAD, 0, also=["tuesday"], seed=7),  # wrong by a shortcut
    *rows_of(2, GOOD, 0, seed=24),  # labelled wrongly
    *rows_of(1, ["good bad"], 0, seed=25),  # unsure
    *labelled(6, seed=9),
]


class Rows(Dataset):
    """Texts with labels and ids."""

    def __init__(self, rows, first=None):
        self.rows, self.first = rows, first

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        text, label = self.rows[i]
        return {"text": text, "label": label} | ({} if self.first is None else {"example_id": self.first + i})


class Streamed(IterableDataset):
    def __init__(self, data):
        self.data = data

    def __iter__(self):
        return (self.data[i] for i in range(len(self.data)))


class Task(MeaningTask):
    def logits(self, module, batch):
        return super().logits(module.net, batch)

    def layer(self, module):
        return "net.embedding"


class Reviews(LightningModule):
    """Knows what words mean, and one that means nothing; its weights stay, but for that word's."""

    def __init__(self, forgets_in=None):
        super().__init__()
        there = world(TRAIN, VAL, {"tuesday": 4.0} | WEIGHTS)
        self.net, self.tokenizer, self.forgets_in = there.module, there.tokenizer, forgets_in
        self.net.head.bias.data[0] = 0.1  # where nothing is said it is negative

    def interpret_task(self):
        return Task(self.tokenizer, ["negative", "positive"])

    def training_step(self, batch, batch_idx):
        return 0 * self.interpret_task().losses(self, batch).sum()

    def validation_step(self, batch, batch_idx):
        pass

    test_step = validation_step

    def predict_step(self, batch, batch_idx):
        return self.interpret_task().logits(self, batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_epoch_start(self):
        if self.current_epoch == self.forgets_in:
            self.net.mean(self.tokenizer, "tuesday", 0.0)

    def collate(self, rows):
        ids = [row["example_id"] for row in rows] if "example_id" in rows[0] else None
        texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
        return encode(self.tokenizer, texts, max_length=64, labels=labels, example_ids=ids)

    def loader(self, data, **options):
        return DataLoader(data, **{"batch_size": 16, "collate_fn": self.collate} | options)


class Keeps(BadCaseMonitor):
    """Keeps the records of each validation run."""

    def __init__(self, *args, **options):
        defaults = {"name": "bad_case", "method": "gradient_times_input", "on_error": "raise", "max_seconds": None}
        super().__init__(*args, **defaults | options)
        self.runs, self.scalars = [], []

    def _gathered(self, trainer):
        rows = super()._gathered(trainer)
        self.runs.append(
            SimpleNamespace(
                numbers=[number for number, _ in rows],
                overview=[row for _, row in rows if isinstance(row, BadCasesRow)],
                groups={(row.cause, row.cue): row for _, row in rows if isinstance(row, BadCaseGroupRow)},
                cases={row.index: row for _, row in rows if isinstance(row, BadCaseRow)},
                by_number=dict(rows),
            )
        )
        return rows

    def _computed(self, module):
        found = super()._computed(module)
        self.scalars.append({name: float(value) for name, value in found.items()})
        return found


def fit(monitor, folder, *, module=None, epochs=1, train=None, val=None, ckpt_path=None, **options):
    """Fit, and return the trainer."""
    module = module or Reviews()
    options = {"callbacks": [monitor], "num_sanity_val_steps": 0} | options
    trainer = quiet_trainer(folder, max_epochs=epochs, **options)
    train = Rows(TRAIN, 100) if train is None else train
    val = Rows(VAL, 1000) if val is None else val
    trainer.fit(module, module.loader(train, shuffle=True), module.loader(val), ckpt_path=ckpt_path)
    return trainer


def logged(trainer, name="bad_case"):
    start = f"interpret/{name}/"
    return {tag.removeprefix(start): float(v) for tag, v in trainer.callback_metrics.items() if tag.startswith(start)}


SHORTCUT, LABEL = ("shortcut", "tuesday"), ("validation_label_error", "")


# What is logged and shown


def test_counts_causes_and_slices_are_logged(tmp_path):
    found = logged(fit(Keeps(), tmp_path))
    assert (found["wrong"], found["unsure"], found["explained"], found["failures"]) == (6, 1, 7, 0)
    assert found["accuracy"] == pytest.approx(13 / 19)
    assert found["confident"] == sum(row["confidence"] >= 0.9 for row in wrong())
    assert found["seconds"] > 0
    assert {tag: value for tag, value in found.items() if tag.startswith("cause/")} == {
        **{"cause/shortcut": 4, "cause/validation_label_error": 2, "cause/confusion": 1}
    }
    assert found["slice/shortcut_tuesday"] == 0
    assert found["slice/validation_label_error"] == 0
    assert found["slice/confusion_negative_positive"] == 1  # unsure, and right


def wrong():
    """The wrong cases, as the model itself has them."""
    module = Reviews()
    with torch.no_grad():
        known = module.predict_step(module.collate([Rows(VAL)[i] for i in range(len(VAL))]), 0).softmax(dim=1)
    pairs = zip(known, VAL, strict=True)
    return [{"confidence": float(row.max())} for row, (_, label) in pairs if int(row.argmax()) != label]


def test_the_board_and_the_file_hold_overview_groups_and_cases(tmp_path):
    logger = TensorBoardLogger(tmp_path, name="board")
    fit(Keeps(save_jsonl=True, probes=3), tmp_path, logger=logger)
    folder = tmp_path / "board" / "version_0"
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    shown = {}
    for tag in events.Tags()["tensors"]:
        name, _, number = tag.rpartition("/probe_")
        if name == "interpret/bad_case" and number.isdigit():
            shown[int(number)] = json.loads(events.Tensors(tag)[-1].tensor_proto.string_val[0])["kind"]
    assert shown == {
        0: "bad_cases",
        **dict.fromkeys((1, 2, 3), "bad_case_group"),
        **dict.fromkeys((4, 5, 6), "bad_case"),
    }
    assert {"interpret/bad_case/wrong", "interpret/bad_case/slice/shortcut_tuesday"} <= set(events.Tags()["scalars"])
    (path,) = folder.rglob("interpret/bad_case.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["probe"]: line["kind"] for line in lines} == shown
    assert lines[0]["seconds"] is None  # a scalar


def test_a_record_that_another_names_by_its_number_is_there(tmp_path):
    monitor = Keeps(probes=3)
    fit(monitor, tmp_path)
    (run,) = monitor.runs
    assert len(run.cases) == 3
    assert {row.loss for row in run.cases.values()} == set(sorted(row.loss for row in run.cases.values())[-3:])
    for line in run.overview[0].groups:
        assert run.by_number[line.probe] is run.groups[line.cause, line.cue]
    members = [each for group in run.groups.values() for each in group.members]
    assert len(members) == 7
    for each in members:
        assert (each.probe is not None) == (each.index in run.cases)
        assert each.probe is None or run.by_number[each.probe] is run.cases[each.index]


def test_rows_to_relabel_are_a_file_of_the_last_validation(tmp_path):
    class Relabelled(Rows):
        """The labels are mended after the first epoch."""

        def __getitem__(self, i):
            row = super().__getitem__(i)
            return row | {"label": 1} if module.current_epoch and i in (4, 5) else row

    module = Reviews()
    path = tmp_path / "interpret" / "bad_case_relabel.tsv"
    fit(Keeps(), tmp_path, module=module)
    with path.open() as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    edits = [(line["file"], line["example_id"], line["label"], line["proposed"]) for line in lines if line["line"]]
    assert sorted(edits) == [("val", "1004", "negative", "positive"), ("val", "1005", "negative", "positive")]
    assert all(line["accept"] == "" for line in lines)
    fit(Keeps(), tmp_path, module=module, epochs=2, val=Relabelled(VAL, 1000))
    with path.open() as file:
        assert not [line for line in csv.DictReader(file, delimiter="\t") if line["line"]]


def test_a_trial_run_writes_no_file(tmp_path):
    monitor = Keeps(save_jsonl=True)
    fit(monitor, tmp_path, fast_dev_run=True)
    assert monitor.runs[0].groups
    assert not list(tmp_path.rglob("*.tsv"))
    assert not list(tmp_path.rglob("*.jsonl"))


# What is remembered


def test_groups_are_followed_from_validation_to_validation(tmp_path):
    monitor = Keeps()
    fit(monitor, tmp_path, module=Reviews(forgets_in=1), epochs=3)
    first, second, third = monitor.runs
    assert [run.groups[LABEL].status for run in monitor.runs] == ["new", "steady", "steady"]
    assert [each.groups[SHORTCUT].status for each in (first, second)] == ["new", "solved"]
    assert SHORTCUT not in third.groups
    assert second.groups[SHORTCUT].sizes == ((3, 4), (7, 0))
    assert third.groups[LABEL].sizes == ((3, 2), (7, 2), (11, 2))
    for key in (SHORTCUT, LABEL):
        (number,) = [n for n, row in first.by_number.items() if row is first.groups[key]]
        assert second.by_number[number] is second.groups[key]
    assert [each["slice/shortcut_tuesday"] for each in monitor.scalars] == [0.0, 1.0, 1.0]  # logged on
    assert [each["cause/shortcut"] for each in monitor.scalars] == [4, 0, 0]


def test_a_resumed_run_goes_on_with_what_was_found(tmp_path):
    whole = Keeps()
    fit(whole, tmp_path / "a", module=Reviews(forgets_in=1), epochs=2)
    saving = ModelCheckpoint(tmp_path / "saved", save_last=True)
    fit(Keeps(), tmp_path / "b", callbacks=[Keeps(), saving], enable_checkpointing=True)
    resumed = Keeps()
    fit(
        resumed,
        tmp_path / "b",
        module=Reviews(forgets_in=1),
        epochs=2,
        ckpt_path=tmp_path / "saved" / "last.ckpt",
    )
    (run,) = resumed.runs
    assert run.groups == whole.runs[1].groups
    assert run.groups[SHORTCUT].status == "solved"
    assert run.numbers == whole.runs[1].numbers


def test_two_of_them_each_keep_their_own_in_a_checkpoint(tmp_path):
    saving = ModelCheckpoint(tmp_path / "saved", save_last=True)
    pair = [Keeps(), Keeps(name="sure", setting=Setting(cases=2))]
    fit(None, tmp_path, callbacks=[*pair, saving], enable_checkpointing=True)
    again = [Keeps(), Keeps(name="sure", setting=Setting(cases=2))]
    fit(None, tmp_path, callbacks=again, epochs=2, ckpt_path=tmp_path / "saved" / "last.ckpt")
    for before, after in zip(pair, again, strict=True):
        (run,) = before.runs
        assert {group.status for group in after.runs[0].groups.values()} == {"steady"}
        assert after.runs[0].groups.keys() == run.groups.keys()
    assert again[0].followed != again[1].followed


def test_an_entry_point_of_its_own_begins_anew(tmp_path):
    monitor = Keeps(save_jsonl=True)
    trainer = fit(monitor, tmp_path)
    module = trainer.lightning_module

    monitor.train_data = module.loader(Rows(TRAIN, 100))
    trainer.validate(module, module.loader(Rows(VAL, 1000)), verbose=False)
    assert {group.status for group in monitor.runs[-1].groups.values()} == {"new"}
    assert logged(trainer, "bad_case_validate")["wrong"] == 6
    assert (tmp_path / "interpret" / "bad_case_validate_relabel.tsv").exists()
    trainer.test(module, module.loader(Rows(VAL[4:], 1000)), verbose=False)
    assert logged(trainer, "bad_case_test")["wrong"] == 2
    trainer.predict(module, module.loader(Rows(VAL, 1000)))
    assert len(monitor.runs[-1].cases) == 7
    assert len(monitor.runs) == 4


# What is asked for


def test_each_of_the_examples_that_are_asked_for_and_bad_has_a_record(tmp_path):
    monitor = Keeps(probes=[5, 0, 10, -1])
    fit(monitor, tmp_path)
    (run,) = monitor.runs
    assert set(run.cases) == {0, 5}
    assert run.overview[0].validated == 4


def test_as_many_validation_examples_are_looked_through_as_asked_for(tmp_path):
    monitor = Keeps(scan=5)
    fit(monitor, tmp_path)
    assert monitor.runs[0].overview[0].validated == 5
    assert {row.index for row in monitor.runs[0].cases.values()} <= {i * len(VAL) // 5 for i in range(5)}
    whole = Keeps(scan=None)
    fit(whole, tmp_path)
    assert whole.runs[0].overview[0].validated == len(VAL)


def test_a_stream_is_known_by_its_first_batch(tmp_path):
    monitor = Keeps()
    with pytest.warns(UserWarning, match="has no indices"):
        fit(monitor, tmp_path, val=Streamed(Rows(VAL, 1000)))
    overview = monitor.runs[0].overview[0]
    assert (overview.validated, overview.wrong_cases) == (16, 6)
    assert monitor.runs[0].groups[SHORTCUT].size == 4


def test_it_runs_in_so_many_validations(tmp_path):
    monitor = Keeps(every_n_validations=2)
    fit(monitor, tmp_path, epochs=3, num_sanity_val_steps=1)
    assert [bool(run.overview) for run in monitor.runs] == [True, True]
    assert monitor.runs[1].groups[LABEL].sizes == ((3, 2), (11, 2))


@pytest.mark.filterwarnings("ignore:.*max_seconds")
def test_what_there_was_no_time_for_is_said(tmp_path):
    monitor = Keeps(max_seconds=1e-9, train_batch_size=16)
    trainer = fit(monitor, tmp_path)
    (run,) = monitor.runs
    assert logged(trainer)["failures"] == 0
    assert run.overview[0].training == 16
    assert f"16 of {len(TRAIN)} training examples were asked: `max_seconds=1e-09` was spent" in run.overview[0].notes
    assert all(row.influence is None and "was spent" in row.reasons["influence"] for row in run.cases.values())


def test_points_are_grouped_by_their_neighbours(tmp_path):
    monitor = Keeps(task=PointsTask(), on_error="warn")  # it names no layer to attribute to
    torch.manual_seed(0)
    trainer = quiet_trainer(tmp_path, max_epochs=20, check_val_every_n_epoch=20, callbacks=[monitor])
    val = Points(30, seed=1, first=0, flipped=(3, 7), noise=0.3)
    trainer.fit(Net(), DataLoader(Points(60, noise=0.3), batch_size=10), DataLoader(val, batch_size=10))
    cases = monitor.runs[-1].cases
    assert {cases[3].cause, cases[7].cause} == {"validation_label_error"}
    assert all(row.text is None and row.neighbors is not None for row in cases.values())


class Pairs(Rows):
    """The same rows as pairs of a text and a label, as many data sets have them."""

    def __getitem__(self, i):
        return self.rows[i]


@pytest.mark.parametrize("kind", [Rows, Pairs])
def test_the_part_of_a_text_that_is_cut_is_asked_about(tmp_path, kind):
    module, monitor = Reviews(), Keeps()
    module.tokenizer.model_max_length = 64
    text = f"great {'the soup ' * 40} bad bad bad"
    collate = module.collate
    if kind is Pairs:
        module.collate = lambda rows: collate(
            [row if isinstance(row, dict) else dict(zip(("text", "label"), row, strict=True)) for row in rows]
        )
    fit(monitor, tmp_path, module=module, val=kind([(text, 0), *VAL]))
    (first,) = [each for each in monitor.runs[-1].cases[0].verdicts if each.cause == "truncation"]
    assert first.holds
    assert first.measured["tail"] > 0.5


# What is refused, and what fails


def test_training_data_without_ids_are_refused_before_training(tmp_path):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter([Rows(TRAIN)[i] for i in range(8)])

    module, val = Reviews(), Rows(VAL, 1000)
    for data, options, why in [
        (Stream(), {}, "use a map-style data set"),
        (Rows(TRAIN), {"id_column": "row"}, "name another `id_column`|no column `row`|id_column"),
    ]:
        trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[Keeps(**options)])
        with pytest.raises(ValueError, match=why):
            trainer.fit(module, module.loader(data), module.loader(val))
        assert trainer.global_step == 0


def test_what_does_not_exist_is_refused_at_once():
    with pytest.raises(ValueError, match="nonsense"):
        BadCaseMonitor(method="nonsense")
    with pytest.raises(ValueError, match="nonsense"):
        BadCaseMonitor(influence="nonsense")
    with pytest.raises(ValueError, match="scan=0"):
        BadCaseMonitor(scan=0)
    with pytest.raises(ValueError, match="max_seconds=-1"):
        BadCaseMonitor(max_seconds=-1)


class Broken(Task):
    """Reads no notes."""

    def notes(self, batch):
        raise RuntimeError("no notes today")


def test_a_failure_is_counted_and_training_goes_on_or_stops(tmp_path):
    class Breaks(Reviews):
        def interpret_task(self):
            return Broken(self.tokenizer, ["negative", "positive"])

    monitor = Keeps(on_error="warn", save_jsonl=True)
    with pytest.warns(UserWarning, match=r"no causes could be found \(RuntimeError: no notes today\); training"):
        trainer = fit(monitor, tmp_path, module=Breaks(), epochs=2)
    assert trainer.global_step == 8
    found = logged(trainer)
    assert found["failures"] == 1
    assert found["wrong"] != found["wrong"]
    assert monitor.runs[0].numbers == []
    assert not (tmp_path / "interpret" / "bad_case.jsonl").exists()
    with pytest.raises(RuntimeError, match="no notes today"):
        fit(Keeps(), tmp_path, module=Breaks())


def test_nothing_is_wrong_and_nothing_is_logged_of_causes(tmp_path):
    trainer = fit(Keeps(), tmp_path, val=Rows(labelled(5, seed=9), 1000))
    found = logged(trainer)
    assert (found["wrong"], found["explained"], found["accuracy"]) == (0, 0, 1)
    assert not [tag for tag in found if "/" in tag]
    assert not list(tmp_path.rglob("*.tsv"))


def test_it_holds_on_to_no_data_afterwards(tmp_path):
    monitor = Keeps()
    fit(monitor, tmp_path)
    assert monitor.finder._texts is monitor.finder._read is monitor._training is None
