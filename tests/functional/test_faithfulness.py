"""Faithfulness by closed-form cases, and beside Captum where both define the same."""

import math
from itertools import permutations

import captum.metrics
import pytest
import torch

from lightning_interpret.functional.faithfulness import (
    aopc,
    aopc_limits,
    comprehensiveness,
    highest,
    infidelity,
    leave_one_out,
    log_odds,
    max_sensitivity,
    normalized_aopc,
    set_infidelity,
    sufficiency,
)

WEIGHTS = torch.tensor([0.4, 0.05, 0.2, 0.15, 0.1], dtype=torch.float64)
ALL = torch.ones(1, 5, dtype=torch.bool)
TENTHS = tuple(range(10, 101, 10))


def additive(masks, rows):
    """0.1 and the weight of what is present."""
    return 0.1 + masks.double() @ WEIGHTS


def near(values, expected):
    torch.testing.assert_close(values, torch.tensor(expected, dtype=values.dtype), rtol=0, atol=1e-12)


# Comprehensiveness and sufficiency of an additive model


def test_t12_the_order_of_an_oracle():
    lost, missing = (measure(WEIGHTS[None], ALL, additive) for measure in (comprehensiveness, sufficiency))
    near(lost, [[0.4, 0.4, 0.4, 0.4, 0.75]])
    near(missing, [[0.5, 0.5, 0.5, 0.5, 0.15]])
    near(aopc(lost), [0.47])
    near(aopc(missing), [0.43])
    near(aopc(lost, paper=True), [0.47 * 5 / 6])


def test_t12_the_reversed_order():
    near(aopc(comprehensiveness(-WEIGHTS[None], ALL, additive)), [0.10])
    near(aopc(sufficiency(-WEIGHTS[None], ALL, additive)), [0.80])


def test_t12_all_orders_in_one_batch():
    scores = torch.tensor(list(permutations(range(5))), dtype=torch.float64)
    counts = ALL.expand(len(scores), 5)
    lost, missing = (aopc(measure(scores, counts, additive)) for measure in (comprehensiveness, sufficiency))
    assert len(lost) == 120
    near(lost.mean(), 0.252)
    near(missing.mean(), 0.648)
    near(normalized_aopc(lost.mean(), lost.min(), lost.max()), 0.152 / 0.37)  # 0.4108
    near(torch.stack(aopc_limits(ALL, additive)).squeeze(1), [lost.min().item(), lost.max().item()])
    near(torch.stack(aopc_limits(ALL, additive, sufficient=True)).squeeze(1), [0.43, 0.80])


def test_t12_the_oracle_is_1_and_its_reverse_0_when_normalized():
    lowest, most = aopc_limits(ALL, additive)
    for scores, expected in ((WEIGHTS, 1.0), (-WEIGHTS, 0.0)):
        values = aopc(comprehensiveness(scores[None], ALL, additive))
        near(normalized_aopc(values, lowest, most), [expected])


def test_t12_bins_of_a_tenth():
    for scores, lost, missing in ((WEIGHTS, 0.70, 0.20), (-WEIGHTS, 0.38, 0.52)):
        near(aopc(comprehensiveness(scores[None], ALL, additive, bins=TENTHS)), [lost])
        near(aopc(sufficiency(scores[None], ALL, additive, bins=TENTHS)), [missing])


# Ranks and rounding


@pytest.mark.parametrize(("share", "units", "expected"), [(70, 10, 7), (1, 5, 1), (50, 5, 3), (20, 5, 1), (100, 7, 7)])
def test_shares_are_rounded_up_in_whole_numbers(share, units, expected):
    counts = torch.ones(1, units, dtype=torch.bool)
    assert int(highest(torch.rand(1, units), counts, [share]).sum()) == expected


def asked(seen):
    return {(row, *map(int, mask)) for masks, rows in seen for mask, row in zip(masks, rows.tolist(), strict=True)}


def test_what_does_not_count_stays_and_is_not_counted():
    counts = torch.tensor([[False, True, True, False], [False, True, False, False]])
    scores = torch.tensor([[9.0, -2.0, -1.0, 9.0], [9.0, -torch.inf, 9.0, 9.0]])
    seen = []

    def kept(masks, rows):
        seen.append((masks, rows))
        return masks.double().sum(dim=1)

    lost = comprehensiveness(scores, counts, kept, bins=[50])
    near(lost, [[1.0], [1.0]])
    assert asked(seen) == {(0, 1, 1, 1, 1), (0, 1, 1, 0, 1), (1, 1, 1, 1, 1), (1, 1, 0, 1, 1)}
    seen.clear()
    near(sufficiency(scores, counts, kept, bins=[50]), [[1.0], [0.0]])
    assert (0, 1, 0, 1, 1) in asked(seen)


def test_of_equal_scores_the_first_comes_first():
    scores, counts = torch.zeros(1, 6), torch.ones(1, 6, dtype=torch.bool)
    assert highest(scores, counts, [50]).squeeze().tolist() == [True] * 3 + [False] * 3


def test_evidence_against_ranks_last():
    chosen = highest(torch.tensor([[-5.0, 0.1, 0.2]]), torch.ones(1, 3, dtype=torch.bool), [20, 60])
    assert chosen.squeeze(1).tolist() == [[False, False, True], [False, True, True]]


def test_a_row_without_units_loses_nothing():
    counts = torch.zeros(1, 5, dtype=torch.bool)
    near(comprehensiveness(torch.zeros(1, 5), counts, additive), [[0.0] * 5])
    near(torch.stack(aopc_limits(counts, additive)), [[0.0], [0.0]])


def test_chunks_do_not_matter_and_bound_a_call():
    scores = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    counts, sizes = ALL.expand(4, 5), []

    def counted(masks, rows):
        sizes.append(len(masks))
        return additive(masks, rows)

    values = comprehensiveness(scores, counts, counted, chunk=7)
    assert torch.equal(values, comprehensiveness(scores, counts, additive))
    assert max(sizes) == 7
    assert sum(sizes) == 4 * (1 + 2)  # four of the five bins take one unit of five: asked once


def test_texts_of_like_length_are_asked_side_by_side():
    counts = torch.ones(4, 8, dtype=torch.bool)
    counts[0, 4:] = counts[2, 3:] = False
    lengths = []

    def kept(masks, rows):
        lengths.extend(counts[rows].sum(dim=1).tolist())
        return masks.double().sum(dim=1)

    lost = comprehensiveness(torch.rand(4, 8), counts, kept, bins=[10, 50, 100])
    near(lost, [[1, 2, 4], [1, 4, 8], [1, 2, 3], [1, 4, 8]])
    assert lengths == sorted(lengths)


def test_several_rankings_are_asked_at_once():
    scores = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    counts, sizes = ALL.expand(4, 5), []

    def kept(masks, rows):
        sizes.append(len(masks))
        return additive(masks, rows) * (1 + rows)

    for measure in (comprehensiveness, sufficiency):
        one_by_one = torch.stack([measure(each, counts, kept) for each in scores])
        sizes.clear()
        assert torch.equal(measure(scores, counts, kept), one_by_one)
        assert sum(sizes) <= 4 * (1 + 3 * 2)  # the whole text once
    drops = log_odds(scores, counts, kept, share=50)
    assert torch.equal(drops, torch.stack([log_odds(each, counts, kept, share=50) for each in scores]))


def test_scores_that_are_no_numbers_have_no_faithfulness_and_infinite_ones_have_an_order():
    scores = torch.tensor([[0.1, torch.nan, 0.2], [torch.nan, torch.inf, -torch.inf]])
    counts = torch.tensor([[True, True, True], [False, True, True]])
    kept = lambda masks, rows: masks.double() @ torch.tensor([1.0, 2, 4]).double()  # noqa: E731
    lost = comprehensiveness(scores, counts, kept, bins=[50])
    assert lost[0].isnan()
    assert lost[1] == 2


def test_log_odds_is_the_drop_of_the_logarithm():
    x = torch.tensor([[3.0, 1, 2]])
    counts = torch.ones(1, 3, dtype=torch.bool)
    likely = lambda masks, rows: masks.double() @ torch.tensor([0.5, 0.1, 0.3]).double()  # noqa: E731
    near(log_odds(x, counts, likely, share=60), [math.log(0.9 / 0.1)])
    assert log_odds(x, counts, likely, share=100).isfinite().all()  # a probability of 0


def test_leaving_one_out_asks_once_for_each_unit():
    counts, sizes = torch.tensor([[True, True, False, True], [False, False, False, False]]), []

    def kept(masks, rows):
        sizes.append(len(masks))
        return masks.double() @ torch.tensor([1.0, 2, 4, 8]).double()

    near(leave_one_out(counts, kept), [[1, 2, 0, 8], [0, 0, 0, 0]])
    assert sum(sizes) == 2 + 3


def test_limits_are_those_of_all_orders_in_rows_of_several_lengths():
    """A model with interactions, by trial of every order."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(2, 64, generator=generator, dtype=torch.float64)
    counts = torch.tensor([[False, True, True, True, True, True], [True, True, False, True, False, False]])

    def kept(masks, rows):
        return table[rows, (masks.long() << torch.arange(6)).sum(dim=1)]

    for sufficient, measure in ((False, comprehensiveness), (True, sufficiency)):
        limits = aopc_limits(counts, kept, bins=(20, 40, 50, 100), sufficient=sufficient)
        for row in range(2):
            places = counts[row].nonzero().flatten().tolist()
            orders = torch.tensor(list(permutations(range(len(places)))), dtype=torch.float64)
            scores = torch.zeros(len(orders), 6, dtype=torch.float64)
            scores[:, places] = orders
            same = lambda masks, rows, row=row: kept(masks, torch.full_like(rows, row))  # noqa: E731
            found = aopc(measure(scores, counts[row].expand(len(orders), 6), same, bins=(20, 40, 50, 100)))
            near(limits[0][row], found.min().item())
            near(limits[1][row], found.max().item())


def test_a_beam_reaches_the_limits_of_a_model_without_interactions_and_none_past_them():
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(16, generator=generator, dtype=torch.float64)
    counts = torch.ones(2, 16, dtype=torch.bool)
    counts[1, 3:] = False  # short: exact
    linear = lambda masks, rows: masks.double() @ weights  # noqa: E731
    for sufficient, measure in ((False, comprehensiveness), (True, sufficiency)):
        ends = [aopc(measure(sign * weights.expand(2, 16), counts, linear)) for sign in (-1, 1)]
        low, high = aopc_limits(counts, linear, beam=2, sufficient=sufficient)
        torch.testing.assert_close(low, torch.minimum(*ends))
        torch.testing.assert_close(high, torch.maximum(*ends))


@pytest.mark.parametrize("beam", [1, 3, 400])
def test_a_beam_lies_inside_the_exact_limits_and_a_wide_one_on_them(beam, monkeypatch):
    table = torch.rand(2, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.tensor([[False, True, True, True, True, True], [True, True, False, True, True, True]])
    kept = lambda masks, rows: table[rows, (masks.long() << torch.arange(6)).sum(dim=1)]  # noqa: E731
    exact = aopc_limits(counts, kept, bins=(20, 40, 60, 80, 100))
    monkeypatch.setattr("lightning_interpret.functional.aopc.MOST_UNITS", 4)
    low, high = aopc_limits(counts, kept, bins=(20, 40, 60, 80, 100), beam=beam)  # sees every size: goes by the AOPC
    assert (low >= exact[0] - 1e-12).all()
    assert (high <= exact[1] + 1e-12).all()
    assert (low <= high).all()
    if beam == 400:
        torch.testing.assert_close(torch.stack([low, high]), torch.stack(exact))


def test_too_many_units_and_wrong_bins_are_refused():
    with pytest.raises(ValueError, match=r"15 units in a row: every order can be tried up to 14"):
        aopc_limits(torch.ones(1, 15, dtype=torch.bool), additive)
    for bins in ([0.5], [0], [101], []):
        with pytest.raises(ValueError, match="whole numbers of percent from 1 to 100"):
            comprehensiveness(WEIGHTS[None], ALL, additive, bins=bins)
    with pytest.raises(ValueError, match=r"must both be \(N, T\)"):
        sufficiency(WEIGHTS, ALL, additive)


# Infidelity and sensitivity


def of(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, -1)


def square(points, rows):
    return points.square().sum(dim=1)


def test_t17_a_linear_function_and_its_gradient():
    slope, noise = of(1, -2, 3), torch.randn(20, 1, 3, dtype=torch.float64)
    x = of(1, 1, 1)
    linear = lambda points, rows: (points * slope).sum(dim=1)  # noqa: E731
    near(infidelity(slope, x, noise, linear), [0.0])
    near(infidelity(slope, x, noise, linear, normalized=True), [0.0])
    near(max_sensitivity(lambda points, rows: slope.expand_as(points), x, noise), [0.0])


@pytest.mark.parametrize(("attribution", "step", "expected"), [(4, 1, 1.0), (4, 0.5, 0.0625), (2, 2, 0.0)])
def test_t17_a_square(attribution, step, expected):
    near(infidelity(of(attribution), of(2), of(step)[None], square), [expected])


def test_t17_the_scale_of_an_attribution_is_free_when_normalized():
    x, noise = of(2, -1), torch.randn(50, 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain, large = (infidelity(scale * 2 * x, x, noise, square, normalized=True) for scale in (1, 100))
    torch.testing.assert_close(plain, large)
    assert float(infidelity(200 * x, x, noise, square)) > 100 * float(infidelity(2 * x, x, noise, square))
    assert float(plain) > 0
    assert infidelity(0 * x, x, noise, square, normalized=True).isfinite().all()


def test_t17_of_the_step_to_the_baseline_it_is_the_error_squared():
    x, baseline = of(3, 2), of(1, -1)
    scores = of(5, 4)  # of a method whose sum misses F(x) - F(x') = 13 - 2 by 2
    rates = scores / (x - baseline)
    near(infidelity(rates, x, (x - baseline)[None], square), [4.0])


def test_of_sets_it_is_that_of_the_steps_to_the_baseline():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 3, 6, generator=generator, dtype=torch.float64)
    absent = torch.rand(7, 3, 6, generator=generator) < 0.5
    counts = torch.rand(3, 6, generator=generator) < 0.8
    table = torch.rand(3, 64, generator=generator, dtype=torch.float64)
    kept = lambda masks, rows: table[rows, (masks.long() << torch.arange(6)).sum(dim=1)]  # noqa: E731
    at = lambda points, rows: kept(points > 0.5, rows)  # noqa: E731
    ones = torch.ones(3, 6, dtype=torch.float64)
    for normalized in (False, True):
        found = set_infidelity(scores, counts, kept, absent, normalized=normalized)
        steps = (absent & counts).double()
        wanted = [infidelity(each, ones, steps, at, normalized=normalized) for each in scores]
        torch.testing.assert_close(found, torch.stack(wanted))
    everything = torch.ones(1, 3, 6, dtype=torch.bool)
    change = table[:, 63] - kept(~counts, torch.arange(3))
    error = (scores[0] * counts).sum(dim=1) - change
    torch.testing.assert_close(set_infidelity(scores[0], counts, kept, everything), error.square())
    scores[0, 1, counts[1].nonzero()[0]] = torch.inf
    assert set_infidelity(scores[0], counts, kept, everything).isnan().tolist() == [False, True, False]
    assert set_infidelity(scores[0], ~counts & counts, kept, everything).isnan().all()
    with pytest.raises(ValueError, match="do not fit"):
        set_infidelity(scores, counts, kept, absent[0])


def test_they_agree_with_captum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    noise = torch.randn(6, 3, 4, dtype=torch.float64, generator=generator)
    each = noise.transpose(0, 1).reshape(18, 4)  # Captum repeats each example for its perturbations
    cubic = lambda points: points.pow(3).sum(dim=1)  # noqa: E731
    slopes = lambda points, *_: 3 * points.square()  # noqa: E731
    for normalized in (False, True):
        peer = captum.metrics.infidelity(
            cubic, lambda points: (each, points - each), x, slopes(x), n_perturb_samples=6, normalize=normalized
        )
        ours = infidelity(slopes(x), x, noise, lambda points, rows: cubic(points), normalized=normalized)
        torch.testing.assert_close(ours, peer)
    peer = captum.metrics.sensitivity_max(
        lambda points: (slopes(points[0]),) if isinstance(points, tuple) else slopes(points),
        x,
        perturb_func=lambda points: points + each,
        n_perturb_samples=6,
    )
    torch.testing.assert_close(max_sensitivity(slopes, x, noise), peer)


def test_a_zero_attribution_is_not_divided_by():
    x, steps = of(0, 0), torch.ones(1, 1, 2, dtype=torch.float64)
    near(max_sensitivity(lambda points, rows: points, x, steps), [2**0.5])
