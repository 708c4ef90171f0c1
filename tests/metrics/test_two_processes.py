"""In two processes, by one group, each metric is what it is in one: sums and counts are reduced, and no means."""

import math
import warnings

import pytest
import torch
from torch import distributed
from torch import multiprocessing as processes

from lightning_interpret import metrics
from lightning_interpret.metrics.slice import SliceAccuracy

N, T = 9, 6
DRAW = torch.Generator().manual_seed(0)
SCORES, OTHER = torch.randn(2, N, T, generator=DRAW, dtype=torch.float64)
SELECTED, GOLD = torch.rand(2, N, T, generator=DRAW) < 0.4
COUNTS = torch.rand(N, T, generator=DRAW) < 0.8
COUNTS[:, 1:3] = True
TABLE = torch.rand(N, 2**T, generator=DRAW, dtype=torch.float64)
NOISE = torch.rand(99, T, 3, generator=DRAW)
SURE = torch.rand(N, generator=DRAW)
FULL, PART = torch.rand(2, N, 2, generator=DRAW)
SCORES[1, 1] = torch.nan  # left out


def kept_of(rows):
    return lambda masks, of: TABLE[rows[of], (masks.long() << torch.arange(T)).sum(dim=1)]


def softly_of(rows):
    def softly(shares, of, seeds):
        there = (NOISE[seeds] < shares[:, :, None]).double().mean(dim=2)
        return (there * OTHER[rows[of]]).sum(dim=1).sigmoid()

    return softly


def ranked(rows):
    return SCORES[rows], COUNTS[rows], kept_of(rows)


BINS = (10, 50)
MARGINAL = {
    "comprehensiveness": (lambda: metrics.Comprehensiveness(bins=BINS), ranked),
    "sufficiency": (lambda: metrics.Sufficiency(bins=BINS), ranked),
    "aopc": (lambda: metrics.AreaOverPerturbationCurve(), ranked),
    "naopc": (lambda: metrics.NormalizedAreaOverPerturbationCurve(bins=BINS), ranked),
    "log odds": (lambda: metrics.LogOdds(), ranked),
    "leave one out": (lambda: metrics.LeaveOneOutCorrelation(), ranked),
    "infidelity": (lambda: metrics.Infidelity(), ranked),
    "infidelity, normalised": (lambda: metrics.Infidelity(normalized=True), ranked),
    "soft comprehensiveness": (
        lambda: metrics.SoftComprehensiveness(samples=2),
        lambda rows: (SCORES[rows], COUNTS[rows], softly_of(rows)),
    ),
    "soft sufficiency": (
        lambda: metrics.SoftSufficiency(samples=2),
        lambda rows: (SCORES[rows], COUNTS[rows], softly_of(rows)),
    ),
}
METRICS = MARGINAL | {
    "given comprehensiveness": (metrics.Comprehensiveness, lambda rows: (FULL[rows], PART[rows])),
    "given sufficiency": (metrics.Sufficiency, lambda rows: (FULL[rows], PART[rows])),
    "error": (metrics.AttributionError, lambda rows: (SCORES[rows], OTHER[rows, 0])),
    "drift": (metrics.ExplanationDrift, lambda rows: (SCORES[rows], OTHER[rows])),
    "sensitivity": (
        lambda: metrics.MaxSensitivity(samples=3),
        lambda rows: (lambda points, of: points.square() * OTHER[rows[of]], SCORES[rows]),
    ),
    "agreement": (
        lambda: metrics.MethodAgreement("rank", k=2, edges=(0.5,)),
        lambda rows: (SCORES[rows], OTHER[rows], COUNTS[rows], SURE[rows]),
    ),
    "randomisation": (
        lambda: metrics.Randomisation(stages=2),
        lambda rows: (SCORES[rows], torch.stack([OTHER[rows], -SCORES[rows]]), COUNTS[rows]),
    ),
    "complexity": (metrics.Complexity, lambda rows: (SCORES[rows], COUNTS[rows])),
    "token F1": (metrics.TokenF1, lambda rows: (SELECTED[rows], GOLD[rows], COUNTS[rows])),
    "token F1, micro": (
        lambda: metrics.TokenF1(average="micro", empty="skip"),
        lambda rows: (SELECTED[rows], GOLD[rows], COUNTS[rows]),
    ),
    "IOU F1": (metrics.IOUF1, lambda rows: (SELECTED[rows], GOLD[rows], COUNTS[rows])),
    "IOU F1, micro": (
        lambda: metrics.IOUF1(average="micro"),
        lambda rows: (SELECTED[rows], GOLD[rows], COUNTS[rows]),
    ),
    "IOU F1, example": (
        lambda: metrics.IOUF1(average="example"),
        lambda rows: (SELECTED[rows], GOLD[rows], COUNTS[rows]),
    ),
    "AUPRC": (metrics.RationaleAUPRC, lambda rows: (SCORES[rows], GOLD[rows], COUNTS[rows])),
    "selection rate": (metrics.SelectionRate, lambda rows: (SELECTED[rows], COUNTS[rows])),
    "slice": (SliceAccuracy, lambda rows: (SELECTED[rows, 0].long(), GOLD[rows, 0].long(), COUNTS[rows, 0])),
}  # fmt: skip
PARTS = (torch.arange(0, 2), torch.arange(2, N))


def numbers(name, parts):
    """The value, that of the control, and the curve: three numbers, NaN for what there is not."""
    make, batch = METRICS[name]
    metric = make()
    for rows in parts:
        metric.update(*batch(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        control = getattr(metric, "control", None)
        curve = metric.curve()[-1] if hasattr(metric, "curve") else math.nan
        return [float(metric.compute()), math.nan if control is None else float(control.compute()), float(curve)]


def worker(rank, store, found):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for i, name in enumerate(METRICS):
        found[(2 * i + rank) * 3 : (2 * i + rank) * 3 + 3] = numbers(name, PARTS[rank : rank + 1])
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    found = processes.get_context("spawn").Array("d", 6 * len(METRICS))
    store = str(tmp_path_factory.mktemp("processes") / "store")
    processes.start_processes(worker, (store, found), nprocs=2, start_method="fork")
    values = list(found)
    return {name: (values[6 * i : 6 * i + 3], values[6 * i + 3 : 6 * i + 6]) for i, name in enumerate(METRICS)}


@pytest.mark.parametrize("name", METRICS)
def test_two_processes_agree_on_the_whole(name, together):
    first, second = together[name]
    assert first == pytest.approx(second, nan_ok=True)  # both know it
    value, _, curve = numbers(name, PARTS)
    assert [first[0], first[2]] == pytest.approx(
        [value, curve], abs=1e-6 if name in ("error", "drift") else 1e-12, nan_ok=True
    )
    assert not math.isnan(value)


@pytest.mark.parametrize("name", MARGINAL)
def test_the_control_is_the_mean_over_the_examples_of_both(name, together):
    make, batch = METRICS[name]
    parts = []
    for rows in PARTS:  # each process draws its own orders
        metric = make()
        metric.update(*batch(rows))
        parts.append(metric.control)
    wanted = sum(each.total for each in parts) / sum(each.count for each in parts)
    assert together[name][0][1] == pytest.approx(float(wanted), abs=1e-12)
