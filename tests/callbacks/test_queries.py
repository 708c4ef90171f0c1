"""The queries of a Monitor are the worst, the least sure or fixed examples, as a loop over the data would find them."""

from functools import partial

import pytest
import torch
from blobs import Keeps, Net, Points, PointsTask, fit
from lightning.pytorch import Callback
from torch.utils.data import DataLoader, IterableDataset


class Compares(Callback):
    """Measures every validation example alone, with the weights that are validated."""

    def __init__(self, data):
        self.data, self.losses, self.doubts = data, [], []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx or trainer.sanity_checking:
            return
        with torch.no_grad():
            logits = [pl_module(self.data.x[i]) for i in range(len(self.data))]
        pairs = zip(logits, self.data.labels, strict=True)
        self.losses.append([float(torch.nn.functional.cross_entropy(z, y)) for z, y in pairs])
        self.doubts.append([1 - float(z.softmax(0).max()) for z in logits])


def order(values):
    return sorted(range(len(values)), key=lambda i: -values[i])


def ids(rows):
    return [row.example_id for row in rows]


@pytest.mark.parametrize("size", [7, 70, 150])
@pytest.mark.parametrize("queries", ["worst", "unsure"])
def test_they_are_those_of_a_loop_over_all_validation_examples(queries, size, tmp_path):
    data = Points(size, seed=3, first=500, noise=1.5)
    compares, monitor = Compares(data), Keeps(queries=queries, probes=4)
    fit(monitor, tmp_path, val=DataLoader(data, batch_size=5), epochs=2, module=Watched(compares))
    assert len(monitor.runs) == 2
    for rows, losses, doubts in zip(monitor.runs, compares.losses, compares.doubts, strict=True):
        values = losses if queries == "worst" else doubts
        assert ids(rows) == [500 + i for i in order(values)[:4]]
        assert [row.loss for row in rows] == pytest.approx([losses[row.example_id - 500] for row in rows], rel=1e-5)
        what = "loss" if queries == "worst" else "doubt"
        first = enumerate(order(values)[:4], 1)
        wanted = [f"{what} {values[i]:.3g}: number {n} of {size}, index {i}" for n, i in first]
        assert [row.why for row in rows] == wanted


class Watched(Net):
    def __init__(self, *callbacks):
        super().__init__()
        self.callbacks = list(callbacks)

    def configure_callbacks(self):
        return self.callbacks


@pytest.mark.parametrize(("probes", "wanted"), [(3, [0, 4, 8]), ([5, -1], [5, 11])])
def test_fixed_ones_are_the_same_each_time(probes, wanted, tmp_path):
    monitor = fit(Keeps(queries="fixed" if isinstance(probes, int) else "worst", probes=probes), tmp_path, epochs=2)
    assert [ids(rows) for rows in monitor.runs] == [wanted] * 2
    assert [row.why for row in monitor.runs[0]] == [f"a fixed probe, index {i}" for i in wanted]


def test_no_more_are_scanned_than_asked(tmp_path):
    data = Points(12, seed=1, first=0)
    monitor = fit(Keeps(scan=4, probes=2), tmp_path, val=DataLoader(data, batch_size=5))
    assert set(ids(monitor.runs[0])) <= {0, 3, 6, 9}
    assert f"number 1 of 4, index {ids(monitor.runs[0])[0]}" in monitor.runs[0][0].why


def test_examples_of_no_finite_loss_are_passed_over(tmp_path):
    data = Points(12, seed=1, first=0)
    data.x[[2, 7]] = torch.nan
    monitor = fit(Keeps(probes=12), tmp_path, val=DataLoader(data, batch_size=5))
    assert sorted(ids(monitor.runs[0])) == [i for i in range(12) if i not in (2, 7)]


def test_a_fixed_one_of_no_finite_loss_has_a_record_that_says_so_and_the_others_theirs(tmp_path):
    data = Points(12, seed=1, first=0)
    data.x[2] = torch.nan
    monitor = fit(Keeps(probes=[1, 2, 3], aggregate=True), tmp_path, val=DataLoader(data, batch_size=5))
    first, bad, last, both = monitor.runs[0]
    assert bad.reasons["influence"] == "the query's gradient is not finite"
    assert (bad.helpful, bad.harmful, bad.example_id) == ((), (), 2)
    assert all(row.helpful and row.examples == 30 and not row.reasons for row in (first, last, both))


def test_where_none_is_finite_it_is_a_failure_and_training_goes_on(tmp_path):
    data = Points(6, seed=1)
    data.x[:] = torch.nan
    with pytest.warns(UserWarning, match=r"`queries='worst'`: none of 6 validation examples has a finite number"):
        monitor = fit(Keeps(on_error="warn"), tmp_path, val=DataLoader(data, batch_size=5))
    assert monitor.scalars[0]["failures"] == 3


class Unlabelled(Points):
    def __getitem__(self, i):
        return {name: value for name, value in super().__getitem__(i).items() if name != "labels"}


class Lenient(Net):
    def validation_step(self, batch, batch_idx):
        self(batch["x"])


def test_without_labels_the_loss_is_that_of_the_prediction(tmp_path):
    val = DataLoader(Unlabelled(12, seed=1, first=0), batch_size=5)
    run = partial(fit, module=Lenient(), val=val)
    with pytest.warns(UserWarning, match="`queries='worst'`, but the batches have no labels: use 'unsure' or 'fixed'"):
        monitor = run(Keeps(on_error="warn"), tmp_path)
    assert monitor.scalars[0]["failures"] == 3
    rows = fit(Keeps(probes=[0, 4]), tmp_path, module=Lenient(), val=val).runs[0]
    assert all("the query has no label: its loss is that of the prediction" in row.notes for row in rows)
    assert all(row.helpful and row.loss is None and row.gold is None for row in rows)
    labelled = Points(12, seed=1, first=0)
    same = {row.example_id: row.prediction for row in rows}
    labelled.labels[[0, 4]] = torch.tensor([int(same[0]), int(same[4])])
    again = fit(Keeps(probes=[0, 4]), tmp_path, module=Lenient(), val=DataLoader(labelled, batch_size=5)).runs[0]
    for row, other in zip(rows, again, strict=True):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in other.helpful]
        assert row.helpful[0].score == pytest.approx(other.helpful[0].score, rel=1e-5)


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Points(12, seed=1, first=0)[i] for i in range(12))


@pytest.mark.parametrize("queries", ["worst", "unsure", "fixed"])
def test_validation_data_without_indices_are_asked_of_the_batch_at_hand(queries, tmp_path):
    with pytest.warns(UserWarning, match="has no indices: the first examples of the first batch"):
        monitor = fit(Keeps(queries=queries, probes=2), tmp_path, val=DataLoader(Stream(), batch_size=5))
    rows = monitor.runs[0]
    assert len(rows) == 2
    assert set(ids(rows)) <= set(range(5))
    assert all(row.helpful for row in rows)


def test_a_task_that_knows_no_probabilities_has_no_least_sure(tmp_path):
    class Opaque(PointsTask):
        def log_probabilities(self, logits):
            return None

    with pytest.warns(UserWarning, match="`queries='unsure'`, but the task knows no probabilities"):
        fit(Keeps(queries="unsure", task=Opaque(), on_error="warn"), tmp_path)


def test_a_kind_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"queries.*'hardest'.*worst"):
        Keeps(queries="hardest")
