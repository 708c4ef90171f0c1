"""Soft erasure: every method keeps the same mass, and the numbers are those of a loop over draws and elements."""

import pytest
import torch

from lightning_interpret.functional.soft_erasure import retained, soft_comprehensiveness, soft_sufficiency

COUNTS = torch.tensor([[True, True, True, True, False], [False, True, True, True, True]])
SCORES = torch.tensor([[3.0, -1, 0, 0.5, 9], [-9, 0.1, 0.1, 0.1, 0.7]]).double()
WEIGHTS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double() / 3


def noise(seed):
    return torch.rand(5, 3, generator=torch.Generator().manual_seed(int(seed))).double()


def softly(shares, rows, seeds):
    """A model of elements 1, which is their weighted sum through a sigmoid."""
    kept = torch.stack([noise(seed) for seed in seeds]) < shares[:, :, None]
    return ((kept * WEIGHTS).sum(dim=(1, 2)) * (1 + rows)).sigmoid()


@pytest.mark.parametrize("mass", [0.1, 0.5, 0.9])
def test_every_method_keeps_the_same_mass_and_its_order(mass):
    several = torch.stack([SCORES, -SCORES.exp(), torch.zeros_like(SCORES)])
    shares = retained(several, COUNTS, mass)
    assert (shares.masked_fill(~COUNTS, 0).sum(dim=2) / 4).flatten().tolist() == pytest.approx([mass] * 6, abs=1e-12)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert (shares[:, ~COUNTS] == 1).all()
    assert (shares[2][COUNTS] - mass).abs().max() < 1e-12
    assert shares[0, 0, :4].argsort(descending=True, stable=True)[0] == 0


def test_shares_are_the_nearest_that_have_the_mass():
    """Of many shares with this mean none is nearer to the scaled scores."""
    scaled, mass = retained(SCORES, COUNTS, None)[0, :4], 0.4
    found = retained(SCORES, COUNTS, mass)[0, :4]
    assert scaled.tolist() == pytest.approx([1, 0, 0.25, 0.375])
    generator = torch.Generator().manual_seed(0)
    others = torch.rand(4000, 4, generator=generator).double()
    others = others[((others * mass / others.mean(dim=1, keepdim=True)) <= 1).all(dim=1)]
    others = others * mass / others.mean(dim=1, keepdim=True)
    assert ((others - scaled).square().sum(dim=1) >= (found - scaled).square().sum() - 1e-12).all()


@pytest.mark.parametrize("mass", [None, 0.3])
def test_numbers_are_those_of_a_loop(mass):
    for measure, kept in ((soft_sufficiency, lambda q: q), (soft_comprehensiveness, lambda q: 1 - q)):
        found = measure(SCORES, COUNTS, softly, mass=mass, samples=3, seed=7, chunk=2)
        for row in range(2):
            q = retained(SCORES, COUNTS, mass)[row]
            share = torch.where(COUNTS[row], kept(q), 1.0)
            drops = []
            for draw in range(3):
                total = sum(
                    float(WEIGHTS[t, d]) for t in range(5) for d in range(3) if float(noise(7 + draw)[t, d]) < share[t]
                )
                drops.append(
                    float((WEIGHTS.sum() * (1 + row)).sigmoid()) - 1 / (1 + 2.718281828459045 ** -(total * (1 + row)))
                )
            assert found[row].item() == pytest.approx(sum(drops) / 3, abs=1e-12)


def test_several_rankings_are_as_one_by_one():
    several = torch.stack([SCORES, -SCORES, SCORES.flip(1)])
    for measure in (soft_sufficiency, soft_comprehensiveness):
        found = measure(several, COUNTS, softly, samples=2)
        torch.testing.assert_close(found, torch.stack([measure(each, COUNTS, softly, samples=2) for each in several]))


def test_what_is_no_number_or_has_no_unit_is_left_out():
    scores = SCORES.clone()
    scores[0, 0] = torch.inf
    scores[1, 0] = torch.nan  # does not count
    assert soft_sufficiency(scores, COUNTS, softly).isnan().tolist() == [True, False]
    assert soft_sufficiency(SCORES, COUNTS & False, softly).isnan().all()
    assert soft_sufficiency(SCORES[:0], COUNTS[:0], softly).shape == (0,)
    for mass in (0, 1, -0.5):
        with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
            retained(SCORES, COUNTS, mass)
    with pytest.raises(ValueError, match=r"must both be \(N, T\)"):
        retained(SCORES, COUNTS[:, 1:])
    with pytest.raises(ValueError, match="`samples=0`"):
        soft_sufficiency(SCORES, COUNTS, softly, samples=0)
