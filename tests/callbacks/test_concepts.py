"""ConceptMonitor in training: what it logs, shows, and says of concepts that it cannot test."""

import json
import math
import os
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.loggers import TensorBoardLogger
from planted_concepts import UNUSED, USED, Planted, PlantedTask, texts
from purity import Texts, Toy, ToyTask
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import quiet_trainer, wordpiece
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_interpret import ConceptActivationVectors, ConceptMonitor, ConceptTestRow, ImageClassification
from lightning_interpret.callbacks.concepts import tags_of
from lightning_interpret.records.concept_test import ConceptTest

SMALL = ConceptActivationVectors("planted.embedding", examples=40, vectors=3, random_concepts=24)
QUICK = replace(SMALL, vectors=2, random_concepts=8)
TOLD = {"used": {"words": [str(USED)]}, "unused": {"words": [str(UNUSED)]}, "even": {"column": "even"}}


class Rows(Dataset):
    """Texts of a planted model with its labels; one in ten has each of the two words, every second one is even."""

    def __init__(self, size=1500, seed=0):
        parts = [
            texts(size * 4 // 5, seed=seed),
            texts(size // 10, USED, seed=seed + 1),
            texts(size // 10, UNUSED, seed=seed + 2),
        ]
        self.ids = torch.cat(parts)
        self.labels = Planted()(self.ids).argmax(dim=1).detach()

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return {"input_ids": self.ids[i], "labels": self.labels[i], "even": i % 2}


class Trained(LightningModule):
    """A planted model that is as good as trained."""

    def __init__(self):
        super().__init__()
        self.planted = Planted()

    def forward(self, ids):
        return self.planted(ids)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch["input_ids"]), batch["labels"])

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def fit(folder, monitor, *, rows=None, epochs=1, module=None, **options):
    trainer = quiet_trainer(folder, max_epochs=epochs, callbacks=[monitor], limit_train_batches=2, **options)
    rows = Rows() if rows is None else rows
    val = DataLoader(Rows(200, seed=50), batch_size=32)
    trainer.fit(Trained() if module is None else module, DataLoader(rows, batch_size=16, shuffle=True), val)
    return {tag.removeprefix("interpret/concepts/"): float(v) for tag, v in trainer.callback_metrics.items()}


def monitor(told=TOLD, method=SMALL, **options):
    return ConceptMonitor(told, method, **{"task": PlantedTask(), "on_error": "raise", "max_seconds": None} | options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        logger = TensorBoardLogger(folder, name="", version="")
        found = fit(folder, monitor(probes=2, save_jsonl=True), epochs=2, logger=logger)
    (events,) = folder.glob("events.*")
    lines = [json.loads(line) for line in (folder / "interpret" / "concepts.jsonl").read_text().splitlines()]
    return found, EventAccumulator(str(events)).Reload(), lines, [str(each.message) for each in said]


def test_scores_with_p_accuracy_and_stability_are_logged_for_every_concept_and_class(run):
    found, board, _, said = run
    assert found["used/yes/corrected_p"] < 0.05
    assert found["used/yes/derivative"] > 0 > found["used/no/derivative"]
    assert min(found["unused/yes/corrected_p"], found["even/yes/corrected_p"], found["even/no/corrected_p"]) > 0.05
    assert found["used/accuracy"] > 0.7 > found["even/accuracy"]
    assert found["used/stability"] > 0.5
    assert found["told_apart"] == 2
    assert found["failures"] == 0
    scalars = board.Tags()["scalars"]
    for concept in TOLD:
        for what in ("accuracy", "stability", "yes", "yes/p", "yes/corrected_p", "yes/derivative", "no"):
            assert len(board.Scalars(f"interpret/concepts/{concept}/{what}")) == 2
    kinds = Counter(tag for tags in board.Tags().values() if isinstance(tags, list) for tag in tags)
    assert max(kinds.values()) == 1
    assert not any("nan" in message.lower() or "left out" in message for message in said)
    assert len(scalars) == 3 * (2 + 2 * 5) + 3 + 1  # and the epoch


def test_probes_and_the_table_are_shown_and_written(run):
    _, board, lines, _ = run
    assert [(line["step"], line["probe"]) for line in lines] == [(s, k) for s in (1, 3) for k in range(3)]
    rows = [ConceptTestRow.from_dict(line) for line in lines]
    assert [row.of_all for row in rows] == 2 * [False, False, True]
    assert rows[2].tested == 200
    assert len(rows[2].tests) == 6
    assert [test.concept for test in rows[0].tests] == list(TOLD)
    assert all(test.own is not None for test in rows[0].tests)
    tags = {tag for tags in board.Tags().values() if isinstance(tags, list) for tag in tags}
    for k in range(3):
        base = f"interpret/concepts/probe_{k}"
        assert {base, f"{base}/image", f"{base}/text/text_summary"} <= tags


def test_a_concept_with_too_few_examples_is_left_out_and_said_once(tmp_path):
    told = {"used": {"words": [str(USED)]}, "rare": {"words": ["no such word"]}}
    with pytest.warns(UserWarning, match=r"concept 'rare' is left out: 0 of the 1500 training examples") as said:
        found = fit(tmp_path, monitor(told, QUICK, save_jsonl=str(tmp_path / "r.jsonl")), epochs=2)
    assert sum("'rare'" in str(each.message) for each in said) == 1
    assert math.isnan(found["rare/yes"])
    assert math.isnan(found["rare/accuracy"])
    assert found["used/yes/p"] < 0.05
    table = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[-1])
    reasons = {test["reason"] for test in table["tests"] if test["concept"] == "rare"}
    assert reasons == {"0 of the 1500 training examples that were looked through have it, and at least 10 are needed"}


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"rare": ["no such word"]}, r"No concept can be fitted: 'rare': 0 of the 1500"),
        ({"few": {"texts": ["a", "b"]}}, r"Concept 'few' has 2 texts, and at least 10 are needed"),
        ({"cheap": {"column": "cheap"}}, r"Concept 'cheap': none of the 1500 .* `column='cheap'`"),
        ({"long": {"texts": list("abcdefghijkl")}}, r"`tokenizer=None`"),
    ],
)
def test_what_cannot_be_read_stops_before_training(told, said, tmp_path):
    class NeverTrained(Trained):
        def training_step(self, batch, batch_idx):
            raise AssertionError("training has begun")

    with pytest.raises(ValueError, match=said):
        fit(tmp_path, monitor(told, on_error="warn"), module=NeverTrained())


def test_layers_data_without_indices_and_a_missing_extra_are_refused_before_training(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"`layer='planted.embeding'` does not exist"):
        fit(tmp_path, monitor(layer="planted.embeding"))

    class Stream(IterableDataset):
        def __iter__(self):
            return iter(Rows(40))

    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[monitor()])
    val = DataLoader(Rows(40), batch_size=8)
    with pytest.raises(ValueError, match="The training data have no indices"):
        trainer.fit(Trained(), DataLoader(Stream(), batch_size=8), val)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"lightning-interpret\[concepts\]"):
        ConceptMonitor(TOLD)


def test_several_layers_have_their_names_in_the_tags_and_time_that_is_spent_is_said(tmp_path):
    layers = ["planted.embedding", "planted.after"]
    found = fit(tmp_path, monitor(method=QUICK, layer=layers))
    assert {f"{layer}/used/yes/p" for layer in layers} <= found.keys()
    assert found["planted.embedding/used/yes"] == found["planted.after/used/yes"]
    with pytest.warns(UserWarning, match=r"at 'planted.after': `max_seconds` was spent before its layer"):
        late = fit(tmp_path, monitor(method=QUICK, layer=layers, max_seconds=1e-6))
    assert found.keys() == late.keys()
    assert math.isnan(late["planted.after/used/yes"])
    assert not math.isnan(late["planted.embedding/used/accuracy"])


def test_a_failure_is_counted_and_tags_that_were_there_stay(tmp_path):
    class Tires(PlantedTask):
        runs = 0

        def resolve(self, logits, batch, which):
            self.runs += which == "gold"
            if self.runs > 7:  # in the second validation
                raise RuntimeError("tired")
            return super().resolve(logits, batch, which)

    with pytest.warns(UserWarning, match=r"concepts could not be tested \(RuntimeError: tired\)"):
        found = fit(tmp_path, monitor(method=QUICK, task=Tires(), on_error="warn", probes=2), epochs=2)
    assert found["failures"] == 2
    assert math.isnan(found["used/yes"])


def test_texts_that_are_written_down_are_read_by_the_tokenizer(tmp_path):
    told = {
        "praise": {
            "words": ["great", "good"],
            "templates": [f"the {word} was {{}}" for word in ("play", "film", "movie")],
        }
    }
    method = ConceptActivationVectors(least=6, examples=6, vectors=2, random_concepts=4)
    watcher = ConceptMonitor(told, method, task=ToyTask(wordpiece()), class_examples=8, on_error="raise")
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[watcher])
    trainer.fit(Toy(), DataLoader(Texts(), batch_size=4), DataLoader(Texts(seed=1), batch_size=4))
    assert trainer.callback_metrics["interpret/concepts/praise/accuracy"] >= 0


class Pictures(Dataset):
    """Images of which the first third is red, and labelled so."""

    def __init__(self, size=120):
        self.red = torch.arange(size) < size // 3
        self.images = torch.randn(size, 3, 6, 6, generator=torch.Generator().manual_seed(size))
        self.images[self.red, 0] += 1

    def __len__(self):
        return len(self.red)

    def __getitem__(self, i):
        return {"pixel_values": self.images[i], "labels": int(self.red[i]), "red": bool(self.red[i])}


class Seeing(Trained):
    """Two convolutions, and a head on the mean of what they see."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3))
        self.head = nn.Linear(6, 2)

    def forward(self, images):
        return self.head(self.body(images).mean(dim=(2, 3)))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch["pixel_values"]), batch["labels"])


class SeeingTask(ImageClassification):
    def logits(self, module, batch):
        return module(batch["pixel_values"])


def test_concepts_of_images_are_told_by_a_column_and_tested_at_every_layer_and_words_are_refused(tmp_path):
    def run(told):
        watcher = monitor(told, QUICK, layer="all", task=SeeingTask(["other", "red"]), probes=1)
        trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[watcher])
        trainer.fit(
            Seeing(), DataLoader(Pictures(), batch_size=20, shuffle=True), DataLoader(Pictures(60), batch_size=20)
        )
        return {tag.removeprefix("interpret/concepts/"): float(v) for tag, v in trainer.callback_metrics.items()}

    found = run({"red": {"column": "red"}})
    for number in range(3):
        assert found[f"body.{number}/red/accuracy"] > 0.6
        assert 0 <= found[f"body.{number}/red/red/p"] <= 1
    assert found["failures"] == 0
    with pytest.raises(ValueError, match=r"'red' are told by words, and SeeingTask reads no texts .* by a column"):
        run({"red": ["red"]})


def test_no_two_tags_are_the_same_whatever_the_names():
    names = ["a b", "a/b", "a_b", "accuracy", "", "ß", "stability"]
    found = tags_of(
        [
            ConceptTest(concept, layer, name)
            for concept in ("x", "probe_1", "seconds")
            for layer in ("l", "m")
            for name in names
        ]
    )
    assert len(set(found.values())) == len(found) == 42
    every = {f"{tag}{what}" for tag in found.values() for what in ("", "/p")}
    assert not every & {
        f"{tag.rpartition('/')[0]}/{what}" for tag in found.values() for what in ("accuracy", "stability")
    }
    assert not any(tag.startswith("probe_") for tag in found.values())


_TWO_PROCESSES = """
import json, sys
import test_concepts as here

class Stream(here.IterableDataset):
    def __iter__(self):
        rows = here.Rows(128, seed=50)
        return (rows[i] for i in range(here.torch.distributed.get_rank(), len(rows), 2))

def main(folder):
    watcher = here.monitor(method=here.QUICK, save_jsonl=f"{folder}/r.jsonl")
    options = {"devices": 2, "strategy": "ddp_fork_find_unused_parameters_true", "limit_train_batches": 2}
    trainer = here.quiet_trainer(folder, max_epochs=1, callbacks=[watcher], **options)
    train, val = here.DataLoader(here.Rows(), batch_size=16), here.DataLoader(Stream(), batch_size=32)
    trainer.fit(here.Trained(), train, val)
    if trainer.is_global_zero:
        print("LOGGED", json.dumps({name: float(value) for name, value in trainer.callback_metrics.items()}))

if __name__ == "__main__":
    main(sys.argv[1])
"""


@pytest.mark.slow
def test_what_two_processes_log_is_the_table_that_is_shown_and_no_mean_of_their_tests(tmp_path):
    (tmp_path / "run.py").write_text(_TWO_PROCESSES)
    here = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (here.parent, here, here / "callbacks")))
    done = subprocess.run(
        [sys.executable, str(tmp_path / "run.py"), str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    logged = json.loads(done.stdout.partition("LOGGED ")[2].splitlines()[0])
    table = json.loads((tmp_path / "r.jsonl").read_text().splitlines()[-1])
    assert table["tested"] == 32
    for test in table["tests"]:
        tag = f"interpret/concepts/{test['concept']}/{test['target_name']}"
        assert logged[f"{tag}/p"] == pytest.approx(test["p"], rel=1e-5)
        assert logged[tag] == pytest.approx(test["score"], rel=1e-5)
