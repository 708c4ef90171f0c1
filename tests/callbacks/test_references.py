"""References that SaliencyMonitor draws from the training data, and its warning of a baseline that is classified."""

import warnings
from functools import partial

import pytest
import torch
from purity import MONITORS, Texts, Toy, ToyTask, fit
from tiny import batch_of, quiet_trainer, wordpiece
from torch.utils.data import DataLoader, IterableDataset, default_collate

from lightning_interpret import ExpectedGradients, SaliencyMonitor
from lightning_interpret.methods import IntegratedGradients

MEAN = IntegratedGradients(steps=4, baseline="training_mean")


class Reads(Texts):
    """Keeps which examples were read."""

    def __init__(self, **options):
        super().__init__(**options)
        self.read = []

    def __getitem__(self, i):
        self.read.append(i)
        return super().__getitem__(i)


def monitor(method=MEAN, **options):
    given = {"task": ToyTask(wordpiece()), "probes": 2, "on_error": "raise", "max_seconds": None}
    return SaliencyMonitor(method, **given | options)


class Keeps(SaliencyMonitor):
    """Keeps the records and the references that they were made with."""

    def explain(self, module, batch, task):
        found = super().explain(module, batch, task)
        self.records = [*getattr(self, "records", []), found]
        return found


def train(callback, tmp_path, data, *, epochs=1, collate=None, val=None):
    trainer = quiet_trainer(tmp_path, max_epochs=epochs, callbacks=[callback])
    train_loader = DataLoader(data, batch_size=4, shuffle=not isinstance(data, IterableDataset), collate_fn=collate)
    torch.manual_seed(0)
    trainer.fit(Toy(), train_loader, val or DataLoader(Texts(seed=1), batch_size=4))
    return trainer


@pytest.mark.parametrize("method", [MEAN, ExpectedGradients(samples=4)], ids=lambda method: method.name)
def test_references_are_read_once_by_index_spread_evenly_and_collated_as_the_loader_does(method, tmp_path):
    collated = []

    def collate(examples):
        batch = default_collate(examples)
        collated.append(batch["example_id"].tolist())
        return batch

    data, watcher = Reads(), Keeps(method, task=ToyTask(wordpiece()), probes=2, references=6, on_error="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(watcher, tmp_path, data, epochs=3, collate=collate)
    assert len(watcher.records) == 3 * 2  # a probe, then another
    assert [ids for ids in collated if ids == [0, 4, 8, 12, 16, 20]] == [[0, 4, 8, 12, 16, 20]]
    assert len(data.read) == 3 * 24 + 6


def test_what_draws_from_no_references_reads_none(tmp_path):
    data = Reads()
    train(monitor(IntegratedGradients(steps=4), references=6), tmp_path, data)
    assert len(data.read) == 24


def test_the_baseline_is_that_of_the_training_data(tmp_path):
    watcher = Keeps(MEAN, task=ToyTask(wordpiece()), probes=1, references=24, on_error="raise")
    trainer = train(watcher, tmp_path, Texts())
    module, task = trainer.lightning_module, ToyTask(wordpiece())
    batch = default_collate([Texts(seed=1)[0]])
    with torch.no_grad():
        every = default_collate([Texts()[i] for i in range(24)])["input_ids"]
        content = torch.tensor([[token not in (0, 2, 3) for token in row] for row in every.tolist()])
        mean = module.embedding(every[content]).mean(dim=0)
        embedded = module.embedding(batch["input_ids"])
        embedded[:, 1:-1] = mean
        hidden = module.eval().mixed(embedded)
        logits = module.scores(module.attention(hidden))
        predicted = int(task.logits(module, batch).argmax())
    assert watcher.records[-1][0].baseline_target == pytest.approx(float(logits[0, predicted]), abs=1e-5)


def test_references_of_the_task_are_kept(tmp_path):
    data, task = Reads(), ToyTask(wordpiece())
    mine = task.with_references(batch_of(task.tokenizer, ["a good film", "bad"]))
    train(monitor(task=mine), tmp_path, data)
    assert len(data.read) == 24
    assert task.references is None


def test_without_training_data_those_evaluated_serve_and_that_is_said(tmp_path):
    watcher = Keeps(MEAN, task=ToyTask(wordpiece()), probes=1, references=6, on_error="raise")
    trainer, data = quiet_trainer(tmp_path, callbacks=[watcher]), Reads(seed=1)
    with pytest.warns(UserWarning, match="this run has no training data: the references are of the data that it eval"):
        trainer.validate(Toy(), DataLoader(data, batch_size=4), verbose=False)
    assert sorted(data.read) == sorted([*range(24), 0, 0, 4, 8, 12, 16, 20])


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Texts()[i] for i in range(8))


def test_training_data_without_indices_are_refused_before_the_first_step(tmp_path):
    message = r"`baseline='training_mean'` is drawn from the training data, which have no indices: give `task=task"
    steps = []

    class Steps(Toy):
        def training_step(self, batch, batch_idx):
            steps.append(batch_idx)
            return super().training_step(batch, batch_idx)

    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[monitor()])
    with pytest.raises(ValueError, match=message):
        trainer.fit(Steps(), DataLoader(Stream(), batch_size=4), DataLoader(Texts(seed=1), batch_size=4))
    assert steps == []
    train(monitor(IntegratedGradients(steps=4)), tmp_path, Stream())  # which needs none


@pytest.mark.parametrize("wrong", [0, -1, True, 2.5])
def test_a_number_of_references_is_positive_and_whole(wrong):
    with pytest.raises(ValueError, match=rf"`references={wrong}` must be a whole number of at least 1"):
        monitor(references=wrong)


def test_the_purity_matrix_reads_references():
    watched = MONITORS["SaliencyMonitor"]()
    assert watched.method.baseline_used.drawn


class Certain(Toy):
    """Sure of a class, whatever stands there."""

    def forward(self, ids):
        return super().forward(ids) * 0.01 + torch.tensor([6.0, 0.0])


@pytest.mark.parametrize(("module", "said"), [(Certain, 1), (Toy, 0)])
def test_a_baseline_that_is_itself_classified_is_warned_of_once(module, said, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit([monitor(IntegratedGradients(steps=4))], tmp_path, module=partial(module), epochs=2)
    messages = [str(each.message) for each in caught if "itself classified" in str(each.message)]
    assert len(messages) == said
    assert all("with probability 1.00" in message and "another `baseline`" in message for message in messages)
