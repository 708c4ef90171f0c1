"""The metric is its functional twin's mean, however the subsets come, and over processes."""

import pytest
import torch
from torch import distributed
from torch import multiprocessing as processes

from lightning_interpret.functional.influence.datamodels import (
    linear_datamodeling_score,
    predicted_outcomes,
    subsets,
)
from lightning_interpret.metrics import LinearDatamodelingScore


def numbers():
    generator = torch.Generator().manual_seed(0)
    masks, scores = subsets(12, 0.5, 9, seed=0), torch.randn(5, 12, generator=generator)
    predicted = predicted_outcomes(scores, masks)
    actual = predicted + torch.randn(9, 5, generator=generator)
    actual[:, 4] = 1.0  # has no rank correlation
    return masks, scores, predicted, actual


def test_it_is_the_mean_over_queries_that_have_one_however_subsets_come():
    masks, scores, predicted, actual = numbers()
    wanted = linear_datamodeling_score(scores, masks, actual)
    assert wanted.isnan().tolist() == [False] * 4 + [True]
    metric = LinearDatamodelingScore()
    metric.update(predicted[0], actual[0])
    metric.update(predicted[1:], actual[1:])
    assert float(metric.compute()) == pytest.approx(float(wanted[:4].mean()), abs=1e-12)
    metric.reset()
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric.compute().isnan()
    assert metric.reason == "no subset was given"
    metric.update(predicted, torch.ones_like(actual))
    with pytest.warns(UserWarning, match="is NaN: of every query all outcomes are the same"):
        assert metric.compute().isnan()
    metric.update(predicted[:1], actual[:1])
    assert metric.reason is None


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"\(5,\) and \(4,\)"):
        LinearDatamodelingScore().update(torch.rand(5), torch.rand(4))


def worker(rank, store, found):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    _, _, predicted, actual = numbers()
    metric = LinearDatamodelingScore()
    mine = slice(0, 4) if rank == 0 else slice(4, 9)
    metric.update(predicted[mine], actual[mine])
    found[rank] = float(metric.compute())
    distributed.destroy_process_group()


def test_processes_that_trained_some_subsets_each_agree_on_the_whole(tmp_path):
    masks, scores, _, actual = numbers()
    found = processes.get_context("spawn").Array("d", 2)
    processes.start_processes(worker, (str(tmp_path / "store"), found), nprocs=2, start_method="fork")
    wanted = float(linear_datamodeling_score(scores, masks, actual)[:4].mean())
    assert list(found) == pytest.approx([wanted, wanted], abs=1e-12)
