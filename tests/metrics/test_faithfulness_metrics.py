"""Faithfulness as torchmetrics: ERASER's numbers by a slow loop in float64, beside random orders of the same tokens."""

import math
from functools import cache
from statistics import fmean

import eraser
import pytest
import torch
from torchmetrics import MetricCollection

from lightning_interpret.functional.agreement import correlation
from lightning_interpret.functional.soft_erasure import soft_comprehensiveness, soft_sufficiency
from lightning_interpret.metrics import (
    AreaOverPerturbationCurve,
    Comprehensiveness,
    Infidelity,
    LeaveOneOutCorrelation,
    LogOdds,
    MaxSensitivity,
    NormalizedAreaOverPerturbationCurve,
    SoftComprehensiveness,
    SoftSufficiency,
    Sufficiency,
)
from lightning_interpret.metrics.marginal_effect import permuted

BINS = (1, 5, 10, 20, 50)
N, T = 6, 7
DRAW = torch.Generator().manual_seed(0)
WEIGHTS = torch.randn(N, T, generator=DRAW, dtype=torch.float64)
PAIRS = torch.randn(N, T, T, generator=DRAW, dtype=torch.float64)
SCORES = torch.randn(N, T, generator=DRAW, dtype=torch.float64).round(decimals=1)
COUNTS = torch.arange(T) < torch.tensor([7, 3, 5, 4, 5, 2])[:, None]
COUNTS[0, 0] = COUNTS[0, -1] = False  # special tokens
ROWS = torch.arange(N)


def kept(masks, rows):
    """A model with interactions: what is present counts, alone and in pairs."""
    here = masks.double()
    pairs = torch.einsum("mt,mtu,mu->m", here, PAIRS[rows], here)
    return ((here * WEIGHTS[rows]).sum(dim=1) + 0.3 * pairs).sigmoid()


def part_of(rows):
    """The model of some of the texts, as a batch of them asks it."""
    return lambda masks, of: kept(masks, rows[of])


def p(i, present):
    return asked(i, frozenset(present))


@cache
def asked(i, present):
    mask = torch.tensor([t in present or not bool(COUNTS[i, t]) for t in range(T)])
    return float(kept(mask[None], torch.tensor([i])))


def places(i):
    return COUNTS[i].nonzero().flatten().tolist()


def order(i):
    return eraser.ranking(SCORES[i], places(i))


def given(make, model=kept):
    metric = make()
    for rows in (ROWS[:2], ROWS[2:]):
        metric.update(SCORES[rows], COUNTS[rows], (lambda masks, of, rows=rows: model(masks, rows[of])))
    return metric


def sets():
    drawn = torch.rand(T, 16, generator=torch.Generator().manual_seed(0)).T < 0.5
    return [each.nonzero().flatten().tolist() for each in drawn]


FAITHFUL = {
    "comprehensiveness": (
        lambda: Comprehensiveness(bins=BINS),
        lambda: fmean(fmean(eraser.comprehensiveness(p, i, order(i), BINS)) for i in range(N)),
    ),
    "sufficiency": (
        lambda: Sufficiency(bins=BINS),
        lambda: fmean(fmean(eraser.sufficiency(p, i, order(i), BINS)) for i in range(N)),
    ),
    "aopc": (
        lambda: AreaOverPerturbationCurve(bins=(20, 60), sufficient=True),
        lambda: fmean(fmean(eraser.sufficiency(p, i, order(i), (20, 60))) for i in range(N)),
    ),
    "aopc of the paper": (
        lambda: AreaOverPerturbationCurve(paper=True),
        lambda: fmean(sum(eraser.comprehensiveness(p, i, order(i), BINS)) / 6 for i in range(N)),
    ),
    "naopc": (
        lambda: NormalizedAreaOverPerturbationCurve(),
        lambda: fmean(eraser.normalized_aopc(p, i, order(i), BINS, eraser.comprehensiveness) for i in range(N)),
    ),
    "naopc of sufficiency": (
        lambda: NormalizedAreaOverPerturbationCurve(sufficient=True),
        lambda: fmean(eraser.normalized_aopc(p, i, order(i), BINS, eraser.sufficiency) for i in range(N)),
    ),
    "log odds": (lambda: LogOdds(share=30), lambda: fmean(eraser.log_odds(p, i, order(i), 30) for i in range(N))),
    "leave one out": (
        lambda: LeaveOneOutCorrelation(),
        lambda: fmean(eraser.leave_one_out(p, i, SCORES[i], places(i)) for i in range(N)),
    ),
    "infidelity": (
        lambda: Infidelity(),
        lambda: fmean(eraser.infidelity(p, i, SCORES[i], places(i), sets()) for i in range(N)),
    ),
}


@pytest.mark.parametrize("name", FAITHFUL)
def test_a_number_is_that_of_a_slow_loop_over_texts(name):
    make, slow = FAITHFUL[name]
    metric = given(make)
    assert float(metric.compute()) == pytest.approx(slow(), abs=1e-9)
    assert metric.reason is None
    assert metric.control.count == N


def test_the_curve_is_the_mean_of_each_bin():
    for make, slow in ((Comprehensiveness, eraser.comprehensiveness), (Sufficiency, eraser.sufficiency)):
        curve = given(lambda make=make: make(bins=BINS)).curve()
        wanted = [fmean(each) for each in zip(*(slow(p, i, order(i), BINS) for i in range(N)), strict=True)]
        assert curve.tolist() == pytest.approx(wanted, abs=1e-12)


def test_t12_the_control_is_the_mean_over_random_orders():
    """Of the additive model the mean over all orders is known: 0.252."""
    weights, many = torch.tensor([0.4, 0.05, 0.2, 0.15, 0.1]).double(), torch.ones(200, 5, dtype=torch.bool)
    additive = lambda masks, rows: 0.1 + masks.double() @ weights  # noqa: E731
    for make, best, mean in ((Comprehensiveness, 0.47, 0.252), (Sufficiency, 0.43, 0.648)):
        metric = make(bins=BINS, control_orders=10)
        metric.update(weights.expand(200, 5), many, additive)
        assert float(metric.compute()) == pytest.approx(best)
        assert float(metric.control.compute()) == pytest.approx(mean, abs=0.01)
    metric = NormalizedAreaOverPerturbationCurve(control_orders=10)
    metric.update(-weights.expand(200, 5), many, additive)
    assert float(metric.compute()) == pytest.approx(0, abs=1e-9)
    assert float(metric.control.compute()) == pytest.approx(0.4108, abs=0.03)


def test_the_control_is_drawn_by_its_seed_and_the_same_after_a_reset():
    make = lambda seed: Comprehensiveness(bins=BINS, seed=seed)  # noqa: E731
    metric, other = given(lambda: make(3)), given(lambda: make(4))
    first = float(metric.control.compute())
    assert float(other.control.compute()) != first
    metric.reset()
    assert metric.control.count == 0
    for rows in (ROWS[:2], ROWS[2:]):
        metric.update(SCORES[rows], COUNTS[rows], part_of(rows))
    assert float(metric.control.compute()) == first
    assert given(lambda: Comprehensiveness(bins=BINS, control_orders=0)).control is None


def test_forward_returns_the_batch_and_adds_it_here_and_in_the_control():
    metric, plain = Comprehensiveness(bins=BINS), given(lambda: Comprehensiveness(bins=BINS))
    alone = [float(metric(SCORES[rows], COUNTS[rows], part_of(rows))) for rows in (ROWS[:2], ROWS[2:])]
    assert float(metric.compute()) == pytest.approx(float(plain.compute()))
    assert (2 * alone[0] + 4 * alone[1]) / 6 == pytest.approx(float(plain.compute()))
    assert metric.control.count == N
    assert float(metric.control.compute()) == pytest.approx(float(plain.control.compute()))


def test_the_random_order_of_amounts_has_the_same_scores_at_other_tokens():
    keys = torch.rand(40, N, T, generator=torch.Generator().manual_seed(0)).double()
    found = permuted(SCORES, COUNTS, keys)
    assert (found[:, ~COUNTS] == 0).all()
    for i in range(N):
        assert all(sorted(each[COUNTS[i]].tolist()) == sorted(SCORES[i][COUNTS[i]].tolist()) for each in found[:, i])
    assert len({tuple(each) for each in found[:, 0].tolist()}) > 30


def test_soft_erasure_is_the_mean_of_its_twin():
    noise = torch.rand(99, T, 2, generator=torch.Generator().manual_seed(0))

    def softly(shares, rows, seeds):
        there = (noise[seeds] < shares[:, :, None]).double().mean(dim=2)
        return ((there * WEIGHTS[rows]).sum(dim=1)).sigmoid()

    for make, twin in ((SoftComprehensiveness, soft_comprehensiveness), (SoftSufficiency, soft_sufficiency)):
        metric = make(mass=0.3, samples=4, seed=5)
        metric.update(SCORES, COUNTS, softly)
        wanted = twin(SCORES, COUNTS, softly, mass=0.3, samples=4, seed=5)
        assert float(metric.compute()) == pytest.approx(float(wanted.mean()), abs=1e-12)
        assert metric.control.count == N


def test_t17_sensitivity_of_a_gradient():
    x = torch.randn(3, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    metric = MaxSensitivity(radius=0.1, samples=5)
    metric.update(lambda points, rows: torch.ones_like(points), x)  # of a linear function
    assert float(metric.compute()) == 0
    scale = torch.tensor([1.0, torch.nan, 1.0])
    metric.update(lambda points, rows: 2 * points * scale[rows].view(-1, 1, 1), x)  # of a square
    assert 0 < float(metric.compute()) <= 0.1 * (3 * 0 + 2 * math.sqrt(3)) / 5 + 0.1
    assert (metric.count, metric.left_out) == (5, 1)


def test_t17_infidelity_with_everything_absent_is_the_error_squared_and_its_scale_is_free_when_normalized():
    metric = Infidelity(absent=1.0)
    metric.update(SCORES, COUNTS, kept)
    errors = [
        sum(float(SCORES[i, t]) for t in places(i)) - (p(i, set(places(i))) - p(i, set())) for i in range(N)
    ]  # fmt: skip
    assert float(metric.compute()) == pytest.approx(fmean(each * each for each in errors), abs=1e-12)
    plain, scaled = (Infidelity(normalized=True) for _ in range(2))
    for each, factor in ((plain, 1), (scaled, 100)):
        each.update(factor * SCORES, COUNTS, kept)
    assert float(scaled.compute()) == pytest.approx(float(plain.compute()))


@pytest.mark.filterwarnings("ignore:.* is NaN")
@pytest.mark.parametrize("name", FAITHFUL)
def test_bad_rows_are_left_out_with_a_reason(name):
    make, _ = FAITHFUL[name]
    scores, counts = SCORES.clone(), COUNTS.clone()
    scores[0, 1], counts[1] = torch.nan, False  # no number; no token of its own
    metric = make()
    metric.update(scores, counts, kept)
    good = make()
    good.update(scores[2:], counts[2:], part_of(ROWS[2:]))
    assert float(metric.compute()) == pytest.approx(float(good.compute()), abs=1e-12)
    assert metric.count == metric.control.count == 4
    assert metric.left_out == 2
    bad = make()
    assert bad.reason == "no example was given"
    bad.update(scores[:2], counts[:2], kept)
    assert bad.compute().isnan()
    assert bad.reason.startswith(bad.nothing)
    assert bad.reason.endswith("in all 2 examples")
    assert bad.control.compute().isnan()


@pytest.mark.filterwarnings("ignore:.* is NaN")
@pytest.mark.parametrize("name", FAITHFUL)
def test_one_token_and_ties_everywhere_are_numbers_or_left_out(name):
    make, _ = FAITHFUL[name]
    one, tied = COUNTS & (torch.arange(T) == 1), torch.zeros_like(SCORES)
    for scores, counts in ((SCORES, one), (tied, COUNTS), (SCORES[:0], COUNTS[:0])):
        metric = make()
        metric.update(scores, counts, kept)
        value = float(metric.compute())
        none = not len(scores) or (name == "leave one out") or (name.startswith("naopc") and counts is one)
        assert math.isnan(value) == none
        assert (metric.reason is None) != none


def test_answers_that_are_no_numbers_are_left_out_with_a_warning_that_says_why():
    strange = torch.tensor([torch.nan, torch.inf, 1, 1, 1, 1])
    answer = lambda masks, rows: kept(masks, rows) * torch.where(masks.all(dim=1), 1, strange[rows])  # noqa: E731
    metric = Comprehensiveness(bins=BINS)
    metric.update(SCORES, COUNTS, answer)
    good = Comprehensiveness(bins=BINS)
    good.update(SCORES[2:], COUNTS[2:], part_of(ROWS[2:]))
    assert float(metric.compute()) == pytest.approx(float(good.compute()), abs=1e-12)
    assert (metric.left_out, metric.control.left_out) == (2, 2)
    bad = Comprehensiveness(bins=BINS)
    bad.update(SCORES[:2], COUNTS[:2], answer)
    with pytest.warns(UserWarning, match="Comprehensiveness is NaN: a score or an answer of the model is not finite"):
        assert bad.compute().isnan()


def test_texts_too_long_for_every_order_are_left_out_or_searched():
    counts = torch.ones(2, 16, dtype=torch.bool)
    counts[1, 4:] = False
    weights = torch.rand(16, generator=torch.Generator().manual_seed(0)).double()
    linear = lambda masks, rows: masks.double() @ weights  # noqa: E731
    metric = NormalizedAreaOverPerturbationCurve(control_orders=0)
    metric.update(weights.expand(2, 16), counts, linear)
    assert (metric.count, metric.left_out) == (1, 1)
    metric = NormalizedAreaOverPerturbationCurve(beam=2)
    metric.update(weights.expand(2, 16), counts, linear)
    assert metric.count == 2
    assert float(metric.compute()) == pytest.approx(1)


def test_options_are_refused_by_name_and_shapes_that_do_not_fit():
    refused = {
        r"`bins=\(0,\)` must be whole": lambda: Sufficiency(bins=[0]),
        r"`bins=\(150,\)`": lambda: LogOdds(share=150),
        "`control_orders=3`: without `bins`": lambda: Comprehensiveness(control_orders=3),
        "`control_orders=-1`": lambda: Comprehensiveness(bins=BINS, control_orders=-1),
        "`kind='tau'` does not exist": lambda: LeaveOneOutCorrelation(kind="tau"),
        "`absent=0` must lie": lambda: Infidelity(absent=0),
        r"`mass=1.0` must lie in \(0, 1\)": lambda: SoftSufficiency(mass=1.0),
        "`beam=0`": lambda: NormalizedAreaOverPerturbationCurve(beam=0),
        "`radius=0` must be positive": lambda: MaxSensitivity(radius=0),
        "`seed=-1`": lambda: LogOdds(seed=-1),
        r"must both be \(N, T\)": lambda: LogOdds().update(SCORES, COUNTS[:, 1:], kept),
        "`bins=None`: classes, or nothing, comes": lambda: Sufficiency().update(SCORES, COUNTS, kept),
        r"`bins=\(1, .*`kept`.* NoneType is given": lambda: Comprehensiveness(bins=BINS).update(SCORES, COUNTS),
        "`kept` must return probabilities, but -": lambda: LogOdds().update(
            SCORES, COUNTS, lambda *of: kept(*of).log()
        ),
        r"asked of \d+ points, but its answer is \(\)": lambda: LogOdds().update(
            SCORES, COUNTS, lambda *_: SCORES[0, 0]
        ),
    }
    for words, call in refused.items():
        with pytest.raises(ValueError, match=words):
            call()


def test_metrics_of_one_collection_keep_what_each_counts():
    made = {
        "aopc": lambda: AreaOverPerturbationCurve(),
        "mean": lambda: Comprehensiveness(bins=BINS),
        "other": lambda: Comprehensiveness(bins=BINS, seed=1),
        "paper": lambda: AreaOverPerturbationCurve(paper=True),
    }
    together = MetricCollection({name: make() for name, make in made.items()})
    for rows in (ROWS[:2], ROWS[2:]):
        together.update(SCORES[rows], COUNTS[rows], part_of(rows))
    found = together.compute()
    for name, make in made.items():
        alone = given(make)
        assert float(found[name]) == pytest.approx(float(alone.compute()))
        assert float(together[name].control.compute()) == pytest.approx(float(alone.control.compute()))


def test_more_is_better_or_it_is_not():
    assert AreaOverPerturbationCurve().higher_is_better
    assert not AreaOverPerturbationCurve(sufficient=True).higher_is_better
    assert not NormalizedAreaOverPerturbationCurve(sufficient=True).higher_is_better


def test_leaving_one_out_can_be_correlated_otherwise():
    lost = torch.tensor([[p(i, set(places(i))) - p(i, set(places(i)) - {t}) if COUNTS[i, t] else 0.0 for t in range(T)] for i in range(N)])  # fmt: skip # noqa: E501
    for kind in ("pearson", "spearman", "cosine"):
        wanted = correlation(SCORES, lost.double(), COUNTS, kind).nanmean()
        assert float(given(lambda kind=kind: LeaveOneOutCorrelation(kind)).compute()) == pytest.approx(float(wanted))
