import os

import numpy as np
import pytest
import torch

from lightning_interpret.report.cleanlab import CleanlabFile


def _batch(start, size, width=3):
    rng = np.random.default_rng(start)
    ids = torch.arange(start, start + size)
    probabilities = torch.tensor(rng.dirichlet([1.0, 1.0], size))
    return ids, ids % 2, probabilities, torch.tensor(rng.normal(size=(size, width)))


def test_batches_come_back_as_the_arrays_that_cleanlab_takes(tmp_path):
    batches = [_batch(0, 5), _batch(5, 4), _batch(9, 1)]
    with CleanlabFile(tmp_path / "new" / "x.npz", ["schlecht", "好"]) as file:
        for batch in batches:
            file.add(*batch)
    data = np.load(tmp_path / "new" / "x.npz")  # no pickle is needed
    assert set(data) == {"ids", "labels", "pred_probs", "features", "label_names"}
    for name, values in zip(("ids", "labels", "pred_probs", "features"), zip(*batches, strict=True), strict=True):
        np.testing.assert_array_equal(data[name], torch.cat(values).numpy().astype(data[name].dtype))
    assert [data[name].dtype for name in ("ids", "labels", "pred_probs", "features")] == ["i8", "i8", "f4", "f4"]
    assert list(data["label_names"]) == ["schlecht", "好"]
    assert (file.examples, file.skipped) == (10, 0)


def test_what_cleanlab_could_not_read_is_left_out_and_counted(tmp_path):
    ids, labels, probabilities, features = _batch(0, 6)
    labels[1], probabilities[2, 0], features[3, 1] = -100, torch.nan, torch.inf
    labels[4] = 2
    with CleanlabFile(tmp_path / "x.npz", ["a", "b"]) as file:
        file.add(ids, labels, probabilities, features)
    assert (file.examples, file.skipped) == (2, 4)
    assert np.load(tmp_path / "x.npz")["ids"].tolist() == [0, 5]


def test_without_features_or_examples_the_file_is_whole(tmp_path):
    with CleanlabFile(tmp_path / "x.npz", ["a", "b"]) as file:
        file.add(*_batch(0, 2)[:3])
    assert set(np.load(tmp_path / "x.npz")) == {"ids", "labels", "pred_probs", "label_names"}
    with CleanlabFile(tmp_path / "x.npz", ["a", "b"]):
        pass
    assert np.load(tmp_path / "x.npz")["pred_probs"].shape == (0, 2)


def test_shapes_that_do_not_fit_are_refused_by_name(tmp_path):
    ids, labels, probabilities, features = _batch(0, 4)
    with pytest.raises(ValueError, match=r"`pred_probs` of shape \(4, 2\) does not fit: expected \(4, 3\)"):
        CleanlabFile(tmp_path / "x.npz", ["a", "b", "c"]).add(ids, labels, probabilities)
    with pytest.raises(ValueError, match=r"`labels` of shape \(3,\)"):
        CleanlabFile(tmp_path / "x.npz", ["a", "b"]).add(ids, labels[:3], probabilities)
    file = CleanlabFile(tmp_path / "x.npz", ["a", "b"])
    file.add(ids, labels, probabilities, features)
    with pytest.raises(ValueError, match="`features=None` after a batch with features"):
        file.add(ids, labels, probabilities)
    with pytest.raises(ValueError, match=r"`features` of shape \(4, 2\)"):
        file.add(ids, labels, probabilities, features[:, :2])


def test_after_an_error_the_file_is_what_it_was(tmp_path):
    path = tmp_path / "x.npz"
    with CleanlabFile(path, ["a", "b"]) as file:
        file.add(*_batch(0, 3))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="does not fit"), CleanlabFile(path, ["a", "b"]) as file:
        [file.add(*_batch(start, 30, width=3 + start)) for start in range(2)]
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.npz"]


def test_memory_does_not_grow_with_the_examples(tmp_path):
    import tracemalloc

    def peak(batches):
        tracemalloc.start()
        with CleanlabFile(tmp_path / "x.npz", ["a", "b"]) as file:
            for start in range(batches):
                file.add(*_batch(start, 256, width=64))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    peak(1)
    assert peak(80) < peak(8) + 100_000  # ten times the data: 5 MB of features
