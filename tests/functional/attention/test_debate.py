"""Distances by golden cases; permuted and adversarial attention by laws, closed forms and slow loops."""

import math
from itertools import permutations

import pytest
import torch
from attention_toys import pooled, responding
from scipy.spatial.distance import jensenshannon

from lightning_interpret.functional.attention.debate import adversarial, adversary_loss, permuted, uniform
from lightning_interpret.functional.attention.distances import jensen_shannon, kullback_leibler, total_variation


def test_distances_of_attention_are_the_golden_ones():
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0])
    assert float(total_variation(p, q)) == 0.5
    assert float(jensen_shannon(p, q)) == pytest.approx(0.215762, abs=1e-6)
    assert float(jensen_shannon(q, 1 - q)) == pytest.approx(math.log(2))
    assert float(kullback_leibler(q, p)) == pytest.approx(math.log(2))


def test_distances_are_scipys_and_have_a_gradient_where_a_weight_is_zero():
    p, q = torch.rand(2, 5, 7, dtype=torch.float64).softmax(dim=-1)
    p = p.index_fill(1, torch.tensor([2]), 0.0)
    expected = [jensenshannon(one, other) ** 2 for one, other in zip(p / p.sum(1, True), q, strict=True)]
    assert jensen_shannon(p / p.sum(1, True), q).tolist() == pytest.approx(expected)
    p.requires_grad_()
    assert torch.autograd.grad(jensen_shannon(p, q).sum(), p)[0].isfinite().all()


def test_divergences_stay_in_their_range_in_single_precision():
    p = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    near = (p.log() + 1e-4 * torch.randn(4000, 8, generator=torch.Generator().manual_seed(1))).softmax(dim=1)
    half = torch.cat([p[:, :4] / p[:, :4].sum(1, True), torch.zeros(4000, 4)], dim=1)
    for found in (jensen_shannon(p, near), jensen_shannon(half, half.flip(1))):
        assert float(found.min()) >= 0
        assert float(found.max()) <= float(torch.tensor(math.log(2)))


def test_the_median_over_permutations_is_that_over_all_orders():
    weights, _, respond = pooled(rows=2, length=3)
    row = torch.tensor([1])
    base = respond(weights[row], row)
    every = torch.stack(
        [total_variation(respond(weights[row][..., list(p)], row), base) for p in permutations(range(3))]
    )
    found = permuted(weights, respond, permutations=4001, generator=torch.Generator().manual_seed(0), chunk=500)
    spread = every.flatten().sort().values
    assert (
        spread[2] - 1e-9 <= found[1] <= spread[3] + 1e-9
    )  # six orders as likely: the median is between the middle two
    assert found[0] == 0  # one place: there is one order


def test_permuted_weights_stay_on_their_places_and_equal_ones_change_nothing():
    weights, there, respond = pooled(rows=3, length=5, distributions=2)
    seen = []

    def watching(given, rows):
        seen.append((given, rows))
        return respond(given, rows)

    permuted(weights, watching, permutations=7, chunk=4)
    for given, rows in seen:
        assert (given[~there[rows][:, None].expand_as(given)] == 0).all()
        assert torch.allclose(given.sort().values, weights[rows].sort().values)
    assert permuted(uniform(weights), respond, permutations=5).abs().max() < 1e-12


def test_no_rows_have_no_changes_and_no_adversaries():
    weights, _, respond = pooled()
    assert permuted(weights[:0], respond).shape == (0,)
    assert adversarial(weights[:0], respond, steps=1).divergence.shape == (0,)


def test_an_adversary_is_as_far_as_it_says_and_answers_alike():
    weights, there, respond = pooled(rows=4, length=6, distributions=2)
    found = adversarial(weights, respond, steps=150, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(4)
    assert torch.allclose(found.weights.sum(-1), torch.ones(4, 2, dtype=torch.float64))
    assert (found.weights[~there[:, None].expand_as(weights)] == 0).all()
    assert torch.allclose(found.change, total_variation(respond(found.weights, rows), respond(weights, rows)))
    assert (found.change <= 0.05).all()
    assert torch.allclose(found.divergence, jensen_shannon(found.weights, weights).mean(dim=1))
    assert found.divergence[0] == 0  # one place
    assert found.divergence[1:].max() > 0.05


def test_rows_and_chunks_have_nothing_to_do_with_one_another():
    weights, _, respond = pooled(rows=4, length=5)
    other = torch.cat([weights[:3], uniform(weights[3:])])
    whole, parts, changed = (
        adversarial(each, respond, steps=40, chunk=chunk, generator=torch.Generator().manual_seed(1)).weights
        for each, chunk in ((weights, 256), (weights, 5), (other, 256))
    )
    assert torch.allclose(whole, parts, atol=1e-12)
    assert torch.allclose(whole[:3], changed[:3], atol=1e-12)


def test_the_adversary_finds_the_farthest_attention_that_a_closed_form_knows():
    """Two places have the same value: weight moves freely between them, and must stay on the third."""
    weights = torch.tensor([[[0.55, 0.05, 0.4]]], dtype=torch.float64)
    values = torch.tensor([[[[4.0, 0.0], [4.0, 0.0], [-4.0, 0.0]]]], dtype=torch.float64)
    moved = torch.tensor([[[0.0, 0.6, 0.4]]], dtype=torch.float64)
    best = float(jensen_shannon(moved, weights))
    found = adversarial(weights, responding(values), steps=200, learning_rate=0.2, generator=torch.manual_seed(0))
    assert 0.9 * best < float(found.divergence) < 1.15 * best  # within 0.05 of the answer a little more is allowed


def test_where_every_other_attention_answers_otherwise_the_original_comes_back():
    weights = torch.tensor([[[0.5, 0.5]]], dtype=torch.float64)
    opposed = torch.tensor([[[[1e4, -1e4], [-1e4, 1e4]]]], dtype=torch.float64)  # any tilt decides
    found = adversarial(weights, responding(opposed), steps=20, generator=torch.Generator().manual_seed(0))
    assert float(found.divergence) == float(found.change) == 0
    assert torch.equal(found.weights, weights)


def test_where_attention_does_not_matter_the_adversary_is_near_the_ceiling():
    weights = torch.tensor([[[1 - 1e-9, 1e-9]]], dtype=torch.float64)
    same = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    drawn = torch.Generator().manual_seed(0)
    found = adversarial(weights, responding(same), steps=100, learning_rate=0.1, generator=drawn)
    assert 0.68 < float(found.divergence) <= math.log(2)


def test_the_loss_of_an_adversary_is_zero_for_the_base_and_falls_with_other_attention():
    weights, _, respond = pooled(rows=3, length=4)
    rows = torch.arange(3)
    base = respond(weights, rows)
    assert adversary_loss(base, weights, base, weights, strength=1.0).abs().max() == 0
    other = uniform(weights)
    expected = total_variation(respond(other, rows), base) - 0.5 * kullback_leibler(other, weights)[:, 0]
    assert torch.allclose(adversary_loss(respond(other, rows), other, base, weights, strength=0.5), expected)
    twice = [each.repeat_interleave(2, dim=1) for each in (other, weights)]
    twice[0][:, 1] = weights[:, 0]  # which counts for nothing
    share = torch.tensor([[1.0, 0.0]]).double()
    counted = adversary_loss(respond(other, rows), twice[0], base, twice[1], strength=0.5, share=share)
    assert torch.allclose(counted, expected)
