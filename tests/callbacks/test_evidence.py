"""Where a Monitor has its training data from, how many of them it had time for, and what it says of those it lacks."""

import json
import os
import subprocess
import sys
from pathlib import Path
from weakref import finalize

import pytest
import torch
from blobs import Keeps, Net, Points, fit, loader
from lightning.pytorch import LightningDataModule
from tiny import quiet_trainer
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from lightning_interpret.callbacks import shortfall
from lightning_interpret.callbacks.shortfall import Shortfall, UntilLate, said


def ids(rows):
    return {each.example_id for row in rows for each in (*row.helpful, *row.harmful)}


# Which training data


def test_more_are_asked_for_than_there_are(tmp_path):
    (rows,) = fit(Keeps(k=50, probes=2, suspects=50), tmp_path, train=loader(6)).runs
    for row in rows:
        assert len(row.helpful) + len(row.harmful) <= 6
        assert len(row.neighbors.neighbors) == 6
        assert (row.examples, row.notes) == (6, ())


def test_fewer_examples_are_spread_evenly_and_are_no_shortfall(tmp_path):
    monitor = fit(Keeps(train_examples=5, k=10), tmp_path)
    (rows,) = monitor.runs
    assert {row.examples for row in rows} == {5}
    assert ids(rows) <= {100, 106, 112, 118, 124}
    assert {each.example_id for each in monitor.suspected[0]} == {100, 106, 112, 118, 124}
    assert not any(row.notes for row in rows)


def test_every_second_validation(tmp_path):
    monitor = fit(Keeps(every_n_validations=2), tmp_path, epochs=4)
    assert len([run for run in monitor.runs if run]) == 2


def test_loaders_that_are_made_anew_are_looked_up_anew(tmp_path):
    class Reloads(LightningDataModule):
        made = 0

        def train_dataloader(self):
            self.made += 1
            return loader(10, first=1000 * self.made)

        def val_dataloader(self):
            return loader(9, seed=1)

    monitor, data = Keeps(probes=2, track=1), Reloads()
    options = {"max_epochs": 3, "reload_dataloaders_every_n_epochs": 1}
    quiet_trainer(tmp_path, callbacks=[monitor], **options).fit(Net(), datamodule=data)
    firsts = [{i // 1000 for i in ids(rows)} for rows in monitor.runs]
    assert firsts == [{1}, {2}, {3}]
    assert "self_influence_3000" in monitor.scalars[-1]
    assert monitor._training is None  # what is over holds no data


def test_new_data_that_cannot_serve_cost_no_run(tmp_path):
    class Loses(LightningDataModule):
        made = 0

        def train_dataloader(self):
            self.made += 1
            return loader(10) if self.made == 1 else DataLoader(Stream(10), batch_size=5)

        def val_dataloader(self):
            return loader(9, seed=1)

    monitor = Keeps(on_error="warn", probes=2)
    options = {"max_epochs": 2, "reload_dataloaders_every_n_epochs": 1}
    with pytest.warns(UserWarning, match="the new training data cannot be asked .*; those before are"):
        quiet_trainer(tmp_path, callbacks=[monitor], **options).fit(Net(), datamodule=Loses())
    assert [len(rows) for rows in monitor.runs] == [2, 2]


# Refused before the first step


class Stream(IterableDataset):
    def __init__(self, size):
        self.size = size

    def __iter__(self):
        return iter(Points(self.size)[i] for i in range(self.size))


class Steps(Net):
    stepped = False

    def training_step(self, batch, batch_idx):
        self.stepped = True
        return self.net(batch[0] if isinstance(batch, list) else batch["x"]).sum()


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (lambda: DataLoader(Stream(6), batch_size=3), {}, r"\(Stream\) cannot be read by index.*map-style"),
        (lambda: DataLoader(TensorDataset(torch.ones(4, 2)), batch_size=2), {}, "have no `example_id` .*WithIds"),
        (lambda: loader(), {"id_column": "row"}, "have no `id_column='row'`"),
        (lambda: loader(), {"track": [100, 5]}, r"`track=\[100, 5\]`: .*there is no 5 among the ids of the 30"),
    ],
)
def test_what_cannot_serve_is_refused_before_the_first_step(train, options, message, tmp_path):
    module = Steps()
    with pytest.raises(ValueError, match=message):
        fit(Keeps(**options, on_error="warn"), tmp_path, train=train(), module=module)
    assert not module.stepped


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_and_before_the_first_batch_of_other_entry_points(stage, tmp_path):
    trainer = quiet_trainer(tmp_path, callbacks=[Keeps(track=[5], train_data=Points(), on_error="warn")])
    with pytest.raises(ValueError, match="there is no 5 among the ids"):
        getattr(trainer, stage)(Net(), loader(6), verbose=False)


# What cannot be read or scored


class Twice(Points):
    """One id comes again: which only who reads all of them can know."""

    def __getitem__(self, i):
        return super().__getitem__(i) | {"example_id": 7 if i > 20 else i}


def test_ids_that_come_twice_are_a_failure_and_training_goes_on(tmp_path):
    monitor = Keeps(train_data=Twice(), on_error="warn", probes=2)
    with pytest.warns(UserWarning, match=r"could not be asked .*id.* 7 .*training goes on"):
        fit(monitor, tmp_path, epochs=2)
    assert [each["failures"] for each in monitor.scalars] == [2, 2]


class Broken(Points):
    def __getitem__(self, i):
        if i in (4, 20):
            raise OSError(f"cannot read {i}")
        return super().__getitem__(i)


class Survives(Net):
    """Trains on what is whole."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss if loss.isfinite() else None


def test_an_example_that_cannot_be_read_is_left_out_and_named(tmp_path):
    monitor = Keeps(train_data=Broken(), k=30)
    with pytest.warns(
        UserWarning, match=r"2 cannot be read: 4, 20 \(example 20: OSError: cannot read 20\): they are"
    ) as caught:
        fit(monitor, tmp_path, epochs=2)
    assert sum("cannot be read" in str(each.message) for each in caught) == 1
    for row in (row for rows in monitor.runs for row in rows):
        assert row.examples == 28
        (note,) = row.notes
        reason = "2 cannot be read: 4, 20 (example 20: OSError: cannot read 20)"
        assert note == f"28 of 30 training examples were asked: {reason}"
    assert not ids(monitor.runs[0]) & {104, 120}


def test_an_example_of_no_finite_gradient_is_left_out_counted_and_named(tmp_path):
    data = Points()
    data.x[[4, 20]] = torch.nan
    monitor = fit(Keeps(train_data=data, k=30), tmp_path)
    for row in monitor.runs[0]:
        assert (row.examples, row.skipped) == (28, 2)
        assert "skipped, as their gradients are not finite: 104, 120" in row.notes
        assert not any("were asked" in note for note in row.notes)
    assert monitor.scalars[0]["skipped"] == 2
    assert not ids(monitor.runs[0]) & {104, 120}
    assert not {each.example_id for each in monitor.suspected[0]} & {104, 120}
    assert monitor.scalars[0]["self_influence"] > 0


# Time


class Examples:
    """Ten batches, at one second each."""

    def __init__(self, clock):
        self.clock, self.taken = clock, []

    def batches(self):
        for i in range(10):
            self.clock[0] += 1
            yield torch.tensor([i]), i

    def take(self, ids):
        self.taken.append(ids)
        return iter(())


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(shortfall.time, "perf_counter", lambda: now[0])
    return now


def test_reading_ends_when_it_is_late_and_goes_through_the_same_examples_again(clock):
    late = []
    examples = UntilLate(Examples(clock), 3.5, lambda: late.append(clock[0]), last=9.5)
    next(examples.batches())  # a trial is no pass
    clock[0] = 0.0
    assert [batch for _, batch in examples.batches()] == [0, 1, 2]
    assert [batch for _, batch in examples.batches()] == [0, 1, 2]
    assert late == [4.0]
    with pytest.raises(TimeoutError, match="goes through the training data several times"):
        list(examples.batches())


def test_passes_of_their_own_end_each_when_it_is_late(clock):
    late = []
    examples = UntilLate(Examples(clock), 3.5, lambda: late.append(clock[0]))
    assert [batch for _, batch in examples.batches()] == [0, 1, 2]
    assert [batch for _, batch in examples.batches()] == [0]  # at least one
    assert len(late) == 2
    assert [batch for _, batch in UntilLate(Examples(clock), 99, late.append).batches()] == list(range(10))


def test_what_there_was_no_time_for_is_said_once_and_in_the_record(tmp_path):
    monitor = Keeps(max_seconds=1e-9, train_batch_size=4, probes=2, track=0)
    with pytest.warns(UserWarning, match="`max_seconds=1e-09` is spent: not all training examples") as caught:
        fit(monitor, tmp_path, epochs=2)
    assert sum("is spent" in str(each.message) for each in caught) == 1
    for row in (row for rows in monitor.runs for row in rows):
        assert (row.examples, row.approximation.examples, row.neighbors.examples) == (4, 4, 4)
        assert row.notes == ("4 of 30 training examples were asked: `max_seconds=1e-09` was spent",)
    assert [each["failures"] for each in monitor.scalars] == [0, 0]


def test_the_reasons_of_all_processes_stand_in_one_note():
    parts = [Shortfall(), Shortfall(failed=3), Shortfall(late=True, unreadable=(7, 3), error="example 7: E")]
    (note,) = said(parts, 10, 4, 2.0)
    assert note == (
        "4 of 10 training examples were asked: 1 of 3 processes failed; `max_seconds=2` was spent; "
        "2 cannot be read: 3, 7 (example 7: E)"
    )
    assert said(parts, 10, 10, 2.0) == ()
    assert ": 0, 1, 2, 3, 4, ... (E)" in said([Shortfall(unreadable=tuple(range(9)), error="E")], 9, 0, None)[0]


# Memory


class Wide(Points):
    """Pictures, as far as memory is concerned."""

    def __getitem__(self, i):
        return super().__getitem__(i) | {"picture": torch.full((20_000,), float(i))}


def test_memory_does_not_grow_with_the_training_data(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_interpret.methods.influence.exact.KEPT_BYTES", 0)
    live, most = [0], [0]

    class Counted(Wide):
        def __getitem__(self, i):
            example = super().__getitem__(i)
            live[0] += 1
            most[0] = max(most[0], live[0])
            finalize(example["picture"], lambda: live.__setitem__(0, live[0] - 1))
            return example

    found = []
    for size in (40, 160):
        most[0] = 0
        fit(Keeps(train_data=Counted(size), train_batch_size=8, probes=1), tmp_path)
        found.append(most[0])
    assert found[0] == found[1] <= 16


# A18: processes

SCRIPT = """
import sys, warnings
from pathlib import Path
from weakref import finalize
import torch
from blobs import Keeps, Points, PointsTask, fit
from torch.utils.data import DataLoader

class Fails(PointsTask):
    def logits(self, module, batch):
        if torch.distributed.get_rank() == 1:
            raise RuntimeError("on one process")
        return super().logits(module, batch)

def main(folder):
    warnings.simplefilter("ignore")
    common = {"k": 4, "probes": 3, "aggregate": True, "suspects": 6, "on_error": "warn", "queries": "fixed"}
    for world in (1, 2):
        more = {"devices": 2, "strategy": "ddp_fork"} if world == 2 else {}
        path = folder / f"world-{world}.jsonl"
        # both train the same: a process has half of the one batch, and gradients are averaged
        train = DataLoader(Points(32), batch_size=32 // world)
        options = common | {"save_jsonl": str(path), "train_data": Points(31), "name": f"of_{world}"}
        fit(Keeps(**options), folder, train=train, **more)
    path = str(folder / "fails.jsonl")
    monitor = Keeps(**common, save_jsonl=path, train_data=Points(31), name="fails", task=Fails())
    fit(monitor, folder, train=DataLoader(Points(32), batch_size=16), devices=2, strategy="ddp_fork")

if __name__ == "__main__":
    main(Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ddp")
    (folder / "run.py").write_text(SCRIPT)
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, str(folder / "run.py"), str(folder)],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | {"PYTHONPATH": f"{here}:{here.parent}"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a18_one_process_and_two_show_the_same_cards(processes):
    one, two = (read(processes / f"world-{world}.jsonl") for world in (1, 2))
    assert len(one) == len(two) == 4
    for row, other in zip(one, two, strict=True):
        for side in ("helpful", "harmful"):
            assert [each["example_id"] for each in row[side]] == [each["example_id"] for each in other[side]]
            assert [e["score"] for e in row[side]] == pytest.approx([e["score"] for e in other[side]], rel=1e-3)
        assert (row["examples"], other["examples"]) == (31, 31)
        assert row["notes"] == other["notes"] == []
    names = [next(processes.rglob(f"of_{world}_suspects.tsv")).read_text().splitlines() for world in (1, 2)]
    assert [line.split("\t")[0] for line in names[0]] == [line.split("\t")[0] for line in names[1]]
    assert len(names[0]) == 7


def test_what_only_one_process_could_read_is_shown_and_the_rest_said(processes):
    rows = read(processes / "fails.jsonl")
    assert len(rows) == 4
    for row in rows:
        assert row["examples"] == 16
        assert row["notes"] == ["16 of 31 training examples were asked: 1 of 2 processes failed"]
