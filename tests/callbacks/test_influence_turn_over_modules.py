"""InfluenceMonitor with turn-over dropout on modules of every making: compiled, with a kernel layer, of texts."""

from functools import partial

import pytest
import torch
from blobs import Keeps, Net, Points, PointsTask, card, fit
from purity import Cell, Dense, Toy
from tiny import VOCABULARY, quiet_trainer, wordpiece, write_reviews
from torch.utils.data import DataLoader, default_collate
from transformers import BertConfig

from lightning_interpret import (
    KernelMixin,
    TextClassifier,
    TextDataModule,
    TurnOverDropoutInfluence,
    TurnOverDropoutMixin,
)
from lightning_interpret.modules.portable import config_values

PARTS = ("seen_accuracy", "unseen_accuracy", "seen_loss", "unseen_loss")


class TurnOver(TurnOverDropoutMixin, Net):
    """Points by a network with masks of a rate of its own."""

    def __init__(self, **options):
        super().__init__(**{"turn_over_rate": 0.3} | options)


def keeps(**options):
    return Keeps("turn_over_dropout", **{"probes": 3, "queries": "fixed", "k": 3, "suspects": 4} | options)


def test_a_trial_run_shows_cards_and_trains(tmp_path):
    monitor = fit(keeps(), tmp_path, module=TurnOver(), fast_dev_run=True)
    assert len(monitor.runs[0]) > 0


class Half(TurnOver):
    """Called compiled."""

    def configure_model(self):
        self.net.compile(backend="eager")


def test_compiled_layers_are_scored_as_they_are_without_compilation(tmp_path):
    runs = [fit(keeps(), tmp_path, module=module()).runs[-1] for module in (TurnOver, Half)]
    for row, other in zip(*runs, strict=True):
        assert card(row) == card(other)


class Both(TurnOverDropoutMixin, KernelMixin, Net):
    """With a kernel layer before the head, too."""

    def interpret_task(self):
        return PointsTask()


def test_a_module_may_have_a_kernel_layer_too(tmp_path):
    module = Both(kernel_landmarks=5)
    monitor = fit(keeps(), tmp_path, module=module, epochs=2)
    fitted = TurnOverDropoutInfluence().fit(module, [default_collate(list(Points()))], PointsTask())
    queries = Points(12, seed=1, first=0)
    expected = fitted.scores(default_collate([queries[i] for i in (0, 4, 8)]), 3)
    assert [card(row) for row in monitor.runs[-1]] == [card(row) for row in expected]


# Bad cases


def test_plain_dropout_in_its_place_is_refused_before_training(tmp_path):
    module = TurnOver()
    module.become_plain()
    with pytest.raises(ValueError, match="drawn anew at each step"):
        fit(keeps(), tmp_path, module=module)


def test_queries_without_labels_have_cards_that_say_so(tmp_path):
    def unlabelled(rows):
        return {"x": torch.stack([row["x"] for row in rows])}

    class Unlabelled(TurnOver):
        def validation_step(self, batch, batch_idx):
            pass

    val = DataLoader(Points(12, seed=1, first=0), batch_size=4, collate_fn=unlabelled)
    rows = fit(keeps(probes=[0, 4]), tmp_path, module=Unlabelled(), val=val).runs[-1]
    assert all("has no label" in " ".join(row.notes) for row in rows)
    assert all(row.examples == 30 and (row.helpful or row.harmful) for row in rows)


# All is as without it


class TurnOverToy(TurnOverDropoutMixin, Toy):
    """What Monitors are watched on, with masks."""

    def __init__(self, manual=False):
        super().__init__(manual, turn_over_layers=["embedding", "input of head"])


class TurnOverDense(TurnOverDropoutMixin, Dense):
    """The same, which can be compiled as a whole."""

    def __init__(self, manual=False):
        super().__init__(manual, turn_over_layers=["embedding", "input of head"])


@pytest.mark.parametrize(
    "cell",
    [
        Cell(TurnOverToy, epochs=2),
        Cell(partial(TurnOverToy, True), "bf16-mixed"),
        Cell(TurnOverToy, stages=("validate", "fit", "test")),
        pytest.param(Cell(TurnOverDense, compiled="aot_eager"), marks=pytest.mark.slow),
    ],
    ids=["fit", "manual-bf16-mixed", "stages", "compiled"],
)
def test_training_is_bit_identical_with_and_without_it(purity, cell):
    monitor, _ = purity.check(cell, "InfluenceMonitor", method="turn_over_dropout")
    assert all(row.examples == 24 for _, row in monitor.found)


# Texts, end to end


class Reviews(TurnOverDropoutMixin, TextClassifier):
    """Reads reviews with masks after every feed-forward block and before its head."""


def test_reviews_end_to_end(tmp_path):
    write_reviews(tmp_path / "train.tsv", 48)
    write_reviews(tmp_path / "val.tsv", 16, seed=1)
    data = TextDataModule(
        train_file=str(tmp_path / "train.tsv"),
        val_file=str(tmp_path / "val.tsv"),
        id_column="id",
        tokenizer=wordpiece(),
        batch_size=16,
    )
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = config_values(BertConfig(vocab_size=VOCABULARY, max_position_embeddings=80, **sizes))
    module = Reviews(config=config, labels=["negative", "positive"], tokenizer=wordpiece(), learning_rate=1e-3)
    monitor = Keeps("turn_over_dropout", task=None, probes=2, k=3, suspects=5, save_jsonl=str(tmp_path / "rows.jsonl"))
    quiet_trainer(tmp_path, max_epochs=2, callbacks=[monitor]).fit(module, data)
    row = monitor.runs[-1][0]
    assert len(module.turn_over_dropout.sites) == 3
    assert all(1000 <= each.example_id < 1048 and each.text for each in row.helpful)
    assert (row.examples, monitor.scalars[-1]["failures"]) == (48, 0)
    assert len(monitor.suspected[-1]) == 5
    assert (tmp_path / "rows.jsonl").exists()
