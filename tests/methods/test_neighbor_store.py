"""Where features are kept: in memory, in a file past a size, and in a folder from one run to the next."""

from pathlib import Path

import pytest
import torch
from digits import DigitsTask, digits, network, split, trained
from full_disk import room_for
from torch import nn

from lightning_interpret.methods.neighbors import NearestNeighbors


class Counted:
    """Digits that say how often they were gone through, and how often the module was called for them."""

    def __init__(self, batch=None, size=100):
        self.parts, self.passes = split(digits()[0] if batch is None else batch, size), 0

    def batches(self):
        self.passes += 1
        for part in self.parts:
            yield part["example_id"], part

    def take(self, ids):
        for part in self.parts:
            rows = torch.isin(part["example_id"], torch.tensor(list(ids)))
            if rows.any():
                yield part["example_id"][rows], {name: values[rows] for name, values in part.items()}


class CountedTask(DigitsTask):
    def __init__(self):
        super().__init__()
        self.rows = 0

    def logits(self, module, batch):
        self.rows += len(batch["pixels"])
        return super().logits(module, batch)


def fit(folder=None, *, model=None, examples=None, **options):
    task = CountedTask()
    options = {"folder": None if folder is None else str(folder), "k": 5} | options
    return NearestNeighbors(**options).fit(model or trained(), examples or Counted(), task), task.rows


def test_features_in_a_file_and_in_memory_are_the_same(tmp_path):
    queries = digits()[1]
    memory, spilled, kept = fit()[0], fit(in_memory_bytes=1000)[0], fit(tmp_path)[0]
    assert memory.store.path is None
    file = spilled.store.path
    assert file.stat().st_size > 1000 * 32 * 4
    assert kept.store.path.parent == tmp_path
    assert memory.find(queries).rows == spilled.find(queries).rows == kept.find(queries).rows
    assert torch.equal(memory.disagreement()[1], spilled.disagreement()[1])
    del spilled
    assert not file.exists()  # a temporary file goes with the last that refers to it


def test_a_datastore_is_used_again_while_weights_and_data_are_the_same(tmp_path):
    first, rows = fit(tmp_path)
    again, after = fit(tmp_path)
    assert rows == 1001  # one of them to find the layer
    assert (first.store.reused, again.store.reused) == (False, True)
    assert after == 1
    assert again.find(digits()[1]).rows == first.find(digits()[1]).rows
    assert again.notes == ()
    cosine, after = fit(tmp_path, metric="cosine")  # features are of no metric
    assert cosine.store.reused
    assert len(list(tmp_path.iterdir())) == 1


def test_other_weights_make_it_anew_and_the_old_file_goes(tmp_path):
    first, _ = fit(tmp_path)
    before = first.find(digits()[1]).rows
    other, rows = fit(tmp_path, model=network(seed=5).eval())
    assert (other.store.reused, rows) == (False, 1001)
    assert len(list(tmp_path.iterdir())) == 1
    assert first.find(digits()[1]).rows == before  # what is mapped stays readable
    assert not fit(tmp_path)[0].store.reused


@pytest.mark.parametrize("what", ["label", "pixel", "one example less"])
def test_training_data_that_changed_are_noticed(tmp_path, what):
    fit(tmp_path)
    batch = {name: values.clone() for name, values in digits()[0].items()}
    if what == "label":
        batch["labels"][17] = (batch["labels"][17] + 1) % 10
    elif what == "pixel":
        batch["pixels"][17, 3] += 0.5
    else:
        batch = {name: values[:-1] for name, values in batch.items()}
    found, rows = fit(tmp_path, examples=Counted(batch))
    assert not found.store.reused
    assert rows == len(batch["labels"]) + 1
    assert found.find(digits()[1])[0].notes == (
        "the training data changed since the datastore was made: it was made anew",
    )
    assert torch.equal(found.store.labels, batch["labels"])


def test_another_layer_has_a_datastore_of_its_own(tmp_path):
    fit(tmp_path)
    other, _ = fit(tmp_path, layer="0")
    assert not other.store.reused
    assert not torch.equal(other.store.features.tanh(), other.store.features)
    assert fit(tmp_path)[0].store.reused
    assert fit(tmp_path, layer="0")[0].store.reused


@pytest.mark.parametrize("harm", ["cut", "gone", "header", "another version's"])
def test_a_file_that_is_not_whole_is_made_anew(tmp_path, harm):
    found, _ = fit(tmp_path)
    path = found.store.path
    data = path.read_bytes()
    del found
    if harm == "cut":
        path.write_bytes(data[:-4])
    elif harm == "gone":
        path.unlink()
    elif harm == "header":
        path.write_bytes(data.replace(b'{"schema"', b'("schema"'))
    else:
        path.write_bytes(data.replace(b'{"schema": 2', b'{"schema": 1'))
    again, _ = fit(tmp_path)
    assert not again.store.reused
    assert len(again.store) == 1000
    assert fit(tmp_path)[0].store.reused


def test_a_full_disk_is_a_clear_error_and_leaves_nothing_half_written(tmp_path):
    with room_for(20_000), pytest.raises(OSError, match=r"Could not write .* make room, or choose another `folder`"):
        fit(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert fit(tmp_path)[0].store.features.shape == (1000, 32)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="choose another `folder`"):
        fit(tmp_path / "file" / "below")


def anonymous():
    """Return the bytes of this process that are backed by no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_training_data():
    """64 MB of features; what is held is a batch, and the distances of a chunk."""
    generator, seen = torch.Generator().manual_seed(0), []

    class Many:
        def batches(self):
            for start in range(0, 16_384, 256):
                pixels = torch.rand(256, 64, generator=generator)
                batch = {"pixels": pixels, "labels": torch.zeros(256, dtype=torch.long)}
                batch["example_id"] = torch.arange(start, start + 256)
                seen.append(anonymous())
                yield batch["example_id"], batch

        def take(self, ids):
            return iter(())

    model = nn.Sequential(nn.Linear(64, 1024), nn.Tanh(), nn.Linear(1024, 10)).eval()
    found = NearestNeighbors(in_memory_bytes=2**22).fit(model, Many(), DigitsTask())
    assert found.store.path.stat().st_size > 2**26
    assert max(seen) - seen[8] < 2**24
    found.find(digits()[1])
    assert anonymous() - seen[8] < 2**27  # chunks of the search, whatever is stored
