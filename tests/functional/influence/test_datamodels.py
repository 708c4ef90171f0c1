"""Subsets and what they are held to, beside scipy's rank correlation one query at a time."""

import numpy
import pytest
import torch
from scipy.stats import spearmanr

from lightning_interpret.functional.influence.datamodels import (
    leave_one_out,
    linear_datamodeling_score,
    removal_effects,
    subsets,
)


def test_subsets_are_of_one_size_and_of_their_seed_alone():
    before = torch.get_rng_state()
    masks = subsets(101, 0.5, 40, seed=3)
    assert torch.equal(before, torch.get_rng_state())
    assert masks.dtype == torch.bool
    assert masks.sum(dim=1).tolist() == [50] * 40
    assert len(masks.unique(dim=0)) == 40
    assert torch.equal(masks[:7], subsets(101, 0.5, 7, seed=3))  # more can be trained later
    assert not torch.equal(masks, subsets(101, 0.5, 40, seed=4))
    shares = subsets(50, 0.3, 2000, seed=0).double().mean(dim=0)
    assert (shares - 0.3).abs().max() < 5 * (0.3 * 0.7 / 2000) ** 0.5  # no example is favoured


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 10, "fraction": 0.0, "count": 2}, "`fraction=0.0`"),
        ({"n": 10, "fraction": 1.0, "count": 2}, "`fraction=1.0`"),
        ({"n": 10, "fraction": float("nan"), "count": 2}, "`fraction=nan`"),
        ({"n": 1, "fraction": 0.5, "count": 2}, "of n=1 examples"),
        ({"n": 10, "fraction": 0.5, "count": 0}, "`count=0`"),
    ],
)
def test_subsets_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        subsets(**options)


def by_scipy(scores, masks, outcomes):
    """The score of each query by itself, as it is defined."""
    found = []
    for m in range(len(scores)):
        predicted = [sum(float(scores[m, i]) for i in range(len(mask)) if mask[i]) for mask in masks]
        actual = [float(numpy.mean([float(v) for v in outcome[..., m].flatten()])) for outcome in outcomes]
        found.append(spearmanr(predicted, actual).statistic)
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("seeds", [(), (3,)])
def test_scores_of_many_queries_are_those_of_each_by_scipy(seeds):
    generator = torch.Generator().manual_seed(0)
    masks = subsets(20, 0.5, 30, seed=1)
    scores = torch.randint(-2, 3, (7, 20), generator=generator, dtype=torch.float64)  # sums with many ties
    noise = torch.randint(-1, 2, (30, *seeds, 7), generator=generator, dtype=torch.float64)
    sums = (masks.double() @ scores.T).reshape(30, *[1] * len(seeds), 7)
    found = linear_datamodeling_score(scores, masks, sums + 3 * noise)
    assert torch.allclose(found, by_scipy(scores, masks, sums + 3 * noise), atol=1e-12)
    assert found.min() > 0.2  # what helps has positive scores
    assert len(sums[:, ..., 0].unique()) < 20


def test_removal_effects_are_positive_where_an_example_helped_and_order_as_masks_without_it():
    """A mean of what the examples say: the effect of leaving one out is known."""
    values = torch.tensor([[0.0, 1.0], [2.0, -1.0], [4.0, 3.0], [-3.0, 0.5]], dtype=torch.float64)
    masks = leave_one_out(4)
    without = torch.stack([values[mask].mean(dim=0) for mask in masks])
    effects = removal_effects(values.mean(dim=0), without)
    assert torch.allclose(effects, ((values - values.mean(dim=0)) / 3).T)
    assert linear_datamodeling_score(effects, masks, without).tolist() == pytest.approx([1, 1])
    assert torch.equal(leave_one_out(4, torch.tensor([2, 0])), masks[[2, 0]])
    over_seeds = removal_effects(torch.stack([values.mean(dim=0)] * 2), torch.stack([without, without + 2], dim=1))
    assert torch.allclose(over_seeds, effects - 1)


@pytest.mark.parametrize("outcomes", [(5, 4), (6, 3), (5, 2, 4), (5,)])
def test_shapes_that_do_not_fit_are_named(outcomes):
    with pytest.raises(ValueError, match=r"scores \(3, 8\), masks \(5, 8\)"):
        linear_datamodeling_score(torch.rand(3, 8), torch.ones(5, 8, dtype=torch.bool), torch.rand(outcomes))
