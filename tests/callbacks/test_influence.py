"""What the influence Monitor shows: right scores of every method, for every kind of batch, and what stands beside."""

import pickle
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from blobs import Keeps, Net, Points, PointsTask, card, fit, loader
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from purity import Texts, Toy, ToyTask
from tiny import quiet_trainer, wordpiece
from torch.utils.data import DataLoader, default_collate
from transformers import BatchEncoding

from lightning_interpret import InfluenceMonitor, WithIds
from lightning_interpret.methods.influence import (
    ConjugateGradientInfluence,
    EkfacInfluence,
    ExactInfluence,
    GradientSimilarity,
    LissaInfluence,
    ProjectedGradients,
    Rerank,
    SaliencyInfluence,
    TracIn,
)

ADAM = partial(torch.optim.Adam, lr=0.05)


# The record


def test_the_record_is_that_of_the_method_on_the_weights_that_are_validated(tmp_path):
    module, monitor = Net(), Keeps(probes=2, queries="fixed", k=3, train_batch_size=7)
    fit(monitor, tmp_path, module=module)  # validated after the last step
    points, queries = Points(), Points(12, seed=1, first=0)
    fitted = ExactInfluence().fit(module, [default_collate(list(points))], PointsTask(), weight_decay=0.01)
    found = fitted.scores(default_collate([queries[0], queries[6]]), 3)
    for row, other in zip(monitor.runs[0], found, strict=True):
        assert card(row) == card(other)
        for each, same in zip((*row.helpful, *row.harmful), (*other.helpful, *other.harmful), strict=True):
            assert each.score == pytest.approx(same.score, rel=1e-4)
            assert each.loss == pytest.approx(same.loss, rel=1e-4)
            assert 0 <= each.disagreement <= 1
        assert (row.examples, row.skipped, row.queries, row.notes) == (30, 0, 1, ())
        stated = row.approximation
        assert (stated.method, stated.layers, stated.examples) == ("exact", ("net.2",), 30)
        assert stated.coverage == pytest.approx(27 / 51)
        assert (stated.damping, stated.weight_decay, stated.curvature) == (0, pytest.approx(0.01), "ggn")
        assert (stated.samples, stated.unit) == (None, "change of the query's loss if the example is removed")
        near = row.neighbors
        assert (near.example_id, near.examples, len(near.neighbors)) == (row.example_id, 30, 3)


def test_the_scalars_are_means_over_the_queries_and_the_training_data(tmp_path):
    module, monitor = Net(), Keeps(probes=4, track=[105, 100])
    fit(monitor, tmp_path, module=module)
    rows, scalars = monitor.runs[0], monitor.scalars[0]
    assert scalars["query_loss"] == pytest.approx(sum(row.loss for row in rows) / 4, rel=1e-5)
    same = [[each.gold == row.prediction for each in row.helpful] for row in rows]
    assert scalars["same_label"] == pytest.approx(sum(sum(each) / len(each) for each in same) / 4)
    assert (scalars["examples"], scalars["skipped"], scalars["failures"]) == (30, 0, 0)
    fitted = ExactInfluence().fit(module, [default_collate(list(Points()))], PointsTask(), weight_decay=0.01)
    ids, own = fitted.self_influence()
    by_id = dict(zip(ids.tolist(), own.tolist(), strict=True))
    assert scalars["self_influence"] == pytest.approx(float(own.mean()), rel=1e-4)
    assert [name for name in scalars if name.startswith("self_influence_")] == [
        "self_influence_105",
        "self_influence_100",
    ]
    assert scalars["self_influence_105"] == pytest.approx(by_id[105], rel=1e-4)


def test_the_aggregate_card_is_of_the_sum_of_all_queries(tmp_path):
    module, monitor = Net(), Keeps(probes=3, aggregate=True, queries="fixed", k=4)
    fit(monitor, tmp_path, module=module)
    *_, whole = monitor.runs[0]
    assert (len(monitor.runs[0]), whole.queries, whole.why, whole.neighbors) == (4, 3, "the sum of 3 queries", None)
    queries = Points(12, seed=1, first=0)
    fitted = ExactInfluence().fit(module, [default_collate(list(Points()))], PointsTask(), weight_decay=0.01)
    (found,) = fitted.scores(default_collate([queries[i] for i in (0, 4, 8)]), 4, aggregate=True)
    assert card(whole) == card(found)
    assert [each.score for each in whole.helpful] == pytest.approx([e.score for e in found.helpful], rel=1e-4)


@pytest.mark.parametrize("keeps", [True, False])
def test_the_training_data_are_read_once_for_the_method_and_once_for_the_neighbours(keeps, tmp_path, monkeypatch):
    if not keeps:
        monkeypatch.setattr("lightning_interpret.methods.influence.exact.KEPT_BYTES", 0)
    sizes = []
    options = {"aggregate": True, "track": 0, "k": 2, "suspects": 5}
    before = fit(Keeps(**options), tmp_path).runs
    runs = fit(Keeps(**options, task=Counts(sizes)), tmp_path).runs
    assert sizes.count(30) == (2 if keeps else 4)  # all of them are one batch; else once more for scores, and suspects
    for row, other in zip(runs[0], before[0], strict=True):
        assert card(row) == card(other)


class Counts(PointsTask):
    """Notes the size of each batch that the module is called with."""

    def __init__(self, sizes):
        super().__init__()
        self.sizes = sizes

    def logits(self, module, batch):
        self.sizes.append(len(batch["x"]))
        return super().logits(module, batch)


# A18: what must change nothing


def test_neither_the_size_of_batches_nor_their_order_changes_a_card(tmp_path):
    def rows(train=None, **options):
        return fit(Keeps(k=4, probes=3, **options), tmp_path, train=train).runs[0]

    class Backwards(Points):
        def __getitem__(self, i):
            return super().__getitem__(len(self) - 1 - i)

    frozen = partial(DataLoader, batch_size=10)
    wanted = rows(frozen(Points()))
    for size in (1, 7, 64):
        for row, other in zip(rows(frozen(Points()), train_batch_size=size), wanted, strict=True):
            assert card(row) == card(other)
            assert [e.score for e in row.helpful] == pytest.approx([e.score for e in other.helpful], rel=1e-4)
    monitor = Keeps(k=4, probes=3, train_data=Backwards())
    for row, other in zip(fit(monitor, tmp_path, train=frozen(Points())).runs[0], wanted, strict=True):
        assert card(row) == card(other)


# A20: every entry point and every kind of batch


@dataclass
class Batch:
    x: torch.Tensor
    labels: torch.Tensor
    example_id: torch.Tensor | None = None


def tuples(rows):
    return torch.stack([row["x"] for row in rows]), torch.stack([row["labels"] for row in rows])


def encodings(rows):
    return BatchEncoding(dict(default_collate(rows)))


def objects(rows):
    return Batch(**default_collate(rows))


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
@pytest.mark.parametrize("collate", [default_collate, tuples, encodings, objects])
def test_a20_every_entry_point_and_kind_of_batch_has_scores(collate, stage, tmp_path):
    def data(size, **options):
        wrapped = WithIds(Points(size, **options), collate, id_column="example_id")
        return DataLoader(wrapped, batch_size=6, collate_fn=wrapped.collate)

    train, val = data(24), data(9, seed=1, first=0)
    monitor = Keeps(train_data=None if stage == "fit" else train)
    trainer = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=1, callbacks=[monitor])
    if stage == "fit":
        trainer.fit(Net(), train, val)
    else:
        getattr(trainer, stage)(Net(), val, verbose=False)
    (rows,) = monitor.runs
    assert len(rows) == 3
    for row in rows:
        assert row.helpful[0].score > 1e-6
        assert row.examples == 24
        assert all(100 <= each.example_id < 124 and each.gold is not None for each in row.helpful)
    suffix = "" if stage == "fit" else f"_{stage}"
    assert trainer.callback_metrics[f"interpret/keeps{suffix}/failures"] == 0


class Single(PointsTask):
    """Batches are one tensor: the point and its class."""

    def logits(self, module, batch):
        return module(batch[:, :2])

    def labels(self, batch):
        return batch[:, 2].long()


def test_a20_batches_that_are_a_tensor(tmp_path):
    class Bare(Net):
        def __init__(self):
            super().__init__()
            self.task = Single()

    def data(points):
        return WithIds([torch.cat([x, y[None].float()]) for x, y in zip(points.x, points.labels, strict=True)])

    train, val = (DataLoader(d, batch_size=6, collate_fn=d.collate) for d in map(data, (Points(24), Points(9, seed=1))))
    (rows,) = fit(Keeps(task=Single()), tmp_path, module=Bare(), train=train, val=val).runs
    assert all(row.helpful[0].score > 1e-6 and row.helpful[0].example_id < 24 for row in rows)


# Every method, with what the run has for it


@pytest.mark.parametrize(
    ("method", "unit"),
    [
        ("exact", "change of the query's loss"),
        (ConjugateGradientInfluence(), "change of the query's loss"),
        (LissaInfluence(depth=100), "change of the query's loss"),
        (EkfacInfluence(), "change of the query's loss"),
        (GradientSimilarity("dot"), "dot product"),
        (GradientSimilarity(preconditioner="adam"), "cosine of gradients, preconditioned"),
        (ProjectedGradients(dimension=16), "change of the query's loss"),
        (Rerank(then="exact", candidates=8), "change of the query's loss"),
    ],
)
def test_every_method_runs_in_a_fit(method, unit, tmp_path):
    monitor = fit(Keeps(method, probes=2, aggregate=True), tmp_path, module=Net(ADAM))
    (rows,) = monitor.runs
    assert len(rows) == 3
    for row in rows:
        assert row.approximation.unit.startswith(unit)
        assert row.helpful[0].score > 0
        assert row.examples == 30
        assert row.helpful[0].gold is not None
    assert monitor.scalars[0]["failures"] == 0
    # of a cosine every self-influence is 1: there is nothing to rank
    assert bool(monitor.suspected[0]) == (getattr(method, "similarity", "") != "cosine")


def test_tracin_goes_through_the_runs_own_checkpoints_and_before_there_are_any_says_what_it_took(tmp_path):
    keeps = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, every_n_epochs=1)
    monitor = Keeps("tracin", probes=1)
    trainer = quiet_trainer(tmp_path, max_epochs=3, callbacks=[monitor, keeps], enable_checkpointing=True)
    trainer.fit(Net(), loader(), loader(12, seed=1, first=0))
    notes = [run[0].approximation.notes for run in monitor.runs]
    assert notes[0] == ("1 checkpoint; the run has written none yet: these are the weights as they are",)
    assert notes[1:] == [("1 checkpoint",), ("2 checkpoints",)]
    assert [each["failures"] for each in monitor.scalars] == [0, 0, 0]
    assert all(run[0].helpful for run in monitor.runs)


def test_a_method_that_lacks_what_it_needs_is_a_failure_that_is_counted_once(tmp_path):
    monitor = Keeps(GradientSimilarity(preconditioner="adam"), on_error="warn", probes=2)
    with pytest.warns(UserWarning, match="SGD keeps no second moments.*training goes on"):
        fit(monitor, tmp_path, epochs=2, module=Net(partial(torch.optim.SGD, lr=0.1, momentum=0.9)))
    assert [each["failures"] for each in monitor.scalars] == [2, 2]
    assert monitor.runs == [[], []]


def test_projected_gradients_are_kept_in_a_folder(tmp_path):
    method = ProjectedGradients(dimension=8, folder=str(tmp_path / "kept"))
    monitor = Keeps(method, train_data=Points())
    trainer, module = quiet_trainer(tmp_path, callbacks=[monitor]), Net()
    for _ in range(2):
        trainer.validate(module, loader(9, seed=1), verbose=False)
    first, second = (run[0] for run in monitor.runs)
    assert not any("reused" in note for note in first.approximation.notes)
    assert any("gradients of an earlier fit reused" in note for note in second.approximation.notes)
    assert card(first) == card(second)


# Loggers and options


def test_without_a_logger_and_with_one_of_scalars_alone(tmp_path):
    with pytest.warns(UserWarning, match="no logger, so nothing is shown"):
        fit(Keeps(), tmp_path)
    with pytest.warns(UserWarning, match="CSVLogger shows the scalars, but no pictures"):
        fit(Keeps(name="seen"), tmp_path, logger=CSVLogger(tmp_path))
    (path,) = tmp_path.rglob("metrics.csv")
    assert "interpret/seen/self_influence" in path.read_text()


def test_a_config_file_can_build_it(tmp_path):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--monitor", type=InfluenceMonitor)
    given = {
        "class_path": "lightning_interpret.InfluenceMonitor",
        "init_args": {
            "method": {"class_path": "lightning_interpret.ExactInfluence", "init_args": {"damping": 0.5}},
            "track": [3, 5],
            "queries": "unsure",
        },
    }
    monitor = parser.instantiate(parser.parse_object({"monitor": given})).monitor
    assert (monitor.method, monitor.track, monitor.queries) == (ExactInfluence(damping=0.5), [3, 5], "unsure")
    named = given | {"init_args": {"method": "tracin"}}
    assert parser.instantiate(parser.parse_object({"monitor": named})).monitor.method == TracIn()


def test_it_can_be_pickled_before_and_after_a_fit(tmp_path):
    monitor = InfluenceMonitor(task=PointsTask(), track=2)
    for _ in range(2):
        again = pickle.loads(pickle.dumps(monitor))
        assert (again.method, again.track) == (monitor.method, 2)
        fit(monitor, tmp_path)
    assert again._training is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "exakt"}, r"`method='exakt'`|exakt.*exact"),
        ({"k": 0}, r"`k=0` must be a whole number of at least 1"),
        ({"scan": 2.5}, r"`scan=2.5` must be a whole number"),
        ({"suspects": -1}, r"`suspects=-1` must be a whole number of at least 0"),
        ({"suspects": 2.5}, r"`suspects=2.5` must be a whole number"),
        ({"track": 1.5}, r"`track=1.5` must be a whole number of at least 0, or a list of ids"),
        ({"track": ["a"]}, r"`track=\['a'\]` must be"),
        ({"save_cleanlab": True, "neighbors": False}, "use `neighbors=True`"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        InfluenceMonitor(**options)


def test_a_method_of_tokens_is_asked_for_one_a_query_labelled_or_not(tmp_path):
    def unlabelled(rows):
        return {name: values for name, values in default_collate(rows).items() if name != "labels"}

    class Lenient(Toy):
        def validation_step(self, batch, batch_idx):
            self(batch["input_ids"])

    monitor = Keeps(SaliencyInfluence(), task=ToyTask(wordpiece()), probes=[1, 2], aggregate=True)
    val = DataLoader(Texts(8, seed=1), batch_size=4, collate_fn=unlabelled)
    fit(monitor, tmp_path, module=Lenient(), train=DataLoader(Texts(12), batch_size=4), val=val)
    *rows, both = monitor.runs[0]
    assert [(row.example_id, row.neighbors.example_id) for row in rows] == [(1, 1), (2, 2)]
    assert all(row.approximation.measure.startswith("saliency of token") and row.helpful for row in rows)
    assert (both.queries, both.neighbors) == (2, None)
    with pytest.raises(ValueError, match="a Monitor shows one"):
        fit(Keeps(SaliencyInfluence(top_tokens=2)), tmp_path)
