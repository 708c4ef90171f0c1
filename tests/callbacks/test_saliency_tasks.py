"""SaliencyMonitor on every task beyond one label a text: in training, at no cost to it, all targets shown."""

import json

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from tiny_tasks import SUBJECTS, subject
from torch.utils.data import DataLoader

from lightning_interpret import SaliencyMonitor
from lightning_interpret.tasks import Regression

SOME = ("causal-gpt2-left", "causal-llama-right", "seq2seq-bart", "tagging-right", "answering-right", "multi-label")


class Watched(LightningModule):
    """A tiny model with the losses of its task."""

    def __init__(self, case):
        super().__init__()
        self.model, self._task = case.model, case.task

    def interpret_task(self):
        return self._task

    def training_step(self, batch, batch_idx):
        return self._task.losses(self, batch).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._task.losses(self, batch).mean())

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


def fitted(name, folder, monitor=None, steps=2):
    case = subject(name)
    torch.manual_seed(0)
    module = Watched(case)
    module.train()
    loader = DataLoader(range(2), batch_size=2, collate_fn=lambda rows: case.make(rows))
    trainer = Trainer(
        max_steps=steps,
        callbacks=[monitor] if monitor else [],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader, loader)
    return trainer, module


def records(folder):
    return [json.loads(line) for line in (folder / "interpret" / "saliency.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_task_is_explained_while_it_trains(name, tmp_path):
    monitor = SaliencyMonitor("gradient_times_input", probes=2, save_jsonl=True, on_error="raise", max_seconds=None)
    trainer, _ = fitted(name, tmp_path, monitor)
    assert trainer.callback_metrics["interpret/saliency/failures"] == 0
    rows = records(tmp_path)
    case = subject(name)
    single = isinstance(case.task, Regression) and name == "regression"
    assert {row["kind"] for row in rows} == {"attribution" if single else "targets"}
    assert {row["example_id"] for row in rows} == {10, 11}
    assert all((row["gold"] is not None) == case.task.judged and row["prediction"] is not None for row in rows)
    assert torch.isfinite(trainer.callback_metrics["interpret/saliency/attribution_error"])
    assert trainer.callback_metrics["interpret/saliency/drift"] >= 0


@pytest.mark.parametrize("name", SOME)
def test_training_is_the_same_with_and_without_it(name, tmp_path):
    monitor = SaliencyMonitor(probes=2, which="predicted", on_error="raise", max_seconds=None)
    _, watched = fitted(name, tmp_path, monitor)
    _, alone = fitted(name, tmp_path)
    for key, value in alone.state_dict().items():
        assert torch.equal(value, watched.state_dict()[key]), key


def test_what_the_model_writes_itself_is_explained_and_training_is_the_same(tmp_path):
    for name in ("causal-gpt2-left", "seq2seq-bart"):
        case = subject(name)
        task = type(case.task)(case.task.tokenizer, continuation="own", max_new_tokens=3)
        monitor = SaliencyMonitor("gradient_times_input", task=task, on_error="raise", save_jsonl=True)
        _, watched = fitted(name, tmp_path / name, monitor)
        _, alone = fitted(name, tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
        for row in records(tmp_path / name):
            assert row["view"] == "grid"
            assert [target["prediction"] for target in row["targets"]] == [target["gold"] for target in row["targets"]]


def test_a_sweep_over_layers_shows_the_sum_of_the_targets_at_each(tmp_path):
    monitor = SaliencyMonitor(layer="all", probes=1, save_jsonl=True, on_error="raise", which="gold", max_seconds=None)
    fitted("causal-gpt2-right", tmp_path, monitor, steps=1)
    targets, *layers = records(tmp_path)
    assert targets["kind"] == "targets"
    assert [row["kind"] for row in layers] == ["attribution"] * len(layers)
    assert len({row["layer"] for row in layers}) == len(layers) > 2
    for row in layers:
        assert row["target"] == pytest.approx(sum(target["value"] for target in targets["targets"]), rel=1e-4)
        assert sum(row["scores"]) == pytest.approx(
            row["attribution_target"], abs=0.02 * abs(row["attribution_target"]) + 0.02
        )


def test_a_target_that_does_not_exist_stops_the_run_before_it_trains(tmp_path):
    with pytest.raises(ValueError, match="nobody"):
        fitted("tagging-right", tmp_path, SaliencyMonitor(which="nobody"))
