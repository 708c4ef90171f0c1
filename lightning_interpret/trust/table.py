"""What all probes say of each method: one table, from figures of each probe, in whatever process they were made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.records.trust import Agreement, Drill, TrustedMethod, TrustRow
from lightning_interpret.trust.figures import FIGURES, PARTS, RANDOM, Probed
from lightning_interpret.trust.paired import sign_flip, standard_error
from lightning_interpret.trust.recommend import recommend
from lightning_interpret.trust.setting import Setting


def table(
    probed: Sequence[Probed],
    methods: Iterable[str],
    setting: Setting,
    *,
    baseline: str | None = None,
    tolerance: float = 0.05,
    drill: Drill | None = None,
    notes: tuple[str, ...] = (),
) -> TrustRow:
    """Return the record of a comparison, with its recommendation.

    Args:
        probed: What each probe says.
        methods: Names of the methods, in the order of the table.
        setting: What they were asked and measured by.
        baseline: Name of what stood where a token was erased; by default what the setting calls it.
        tolerance: Relative attribution error up to which a method adds up.
        drill: What became of a planted cue.
        notes: What else the reader should know.
    """
    names = list(methods)
    found = tuple(_method(name, probed) for name in names)
    control = _method(RANDOM, probed)
    recommended, because = recommend(found, control, drill=drill, tolerance=tolerance)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    return TrustRow(
        methods=found,
        control=control,
        agreement=tuple(_agreement(*pair, probed) for pair in pairs),
        drill=drill,
        recommended=recommended,
        because=because,
        probes=len(probed),
        baseline=baseline or Baseline.ensure(setting.baseline).name,
        which=setting.which,
        output=setting.output,
        tolerance=tolerance,
        notes=notes,
    )


def _method(name: str, probed: Sequence[Probed]) -> TrustedMethod:
    known = [each for each in probed if name in each.figures]
    rows = [each.figures[name] for each in known]

    def mean(figure: str) -> float | None:
        values = [row[figure] for row in rows if figure in row]
        return math.fsum(values) / len(values) if values else None

    figures = {figure: mean(figure) for figure in FIGURES}
    error, target, precision, recall = (mean(part) for part in PARTS)
    if error is not None and target:
        figures["relative_error"] = error / target
    if recall is not None:
        figures["iou_f1"] = 2 * (precision or 0.0) * recall / ((precision or 0.0) + recall) if precision else 0.0
    gains = [_gain(each.figures[name], each.figures.get(RANDOM, {})) for each in known]
    gained = [] if name == RANDOM else [gain for gain in gains if gain is not None]
    missing = [figure for figure, value in figures.items() if value is None]
    reasons = Counter(
        (figure, why) for each in known for figure, why in each.reasons.get(name, {}).items() if figure in missing
    )
    return TrustedMethod(
        name=name,
        figures={figure: value for figure, value in figures.items() if value is not None},
        probes=len(rows),
        gain=math.fsum(gained) / len(gained) if gained else None,
        gain_error=standard_error(gained),
        p=sign_flip(gained) if gained else None,
        failed=_failed(name, probed),
        reasons={figure: why for (figure, why), _ in reversed(reasons.most_common())},
    )


def _gain(row: Mapping[str, float], control: Mapping[str, float]) -> float | None:
    if not {"comprehensiveness", "sufficiency"} <= row.keys() & control.keys():
        return None
    lost = row["comprehensiveness"] - control["comprehensiveness"]
    return (lost + control["sufficiency"] - row["sufficiency"]) / 2


def _failed(name: str, probed: Sequence[Probed]) -> str | None:
    whys = Counter(each.failed[name] for each in probed if name in each.failed)
    if not whys:
        return None
    most = whys.most_common(1)[0][0]
    return most if whys.total() == len(probed) else f"at {whys.total()} of {len(probed)} probes: {most}"


def _agreement(first: str, second: str, probed: Sequence[Probed]) -> Agreement:
    known = [each.agreement[first, second] for each in probed if (first, second) in each.agreement]
    taus, shares = [tau for tau, _ in known if tau is not None], [share for _, share in known]
    return Agreement(
        first,
        second,
        math.fsum(taus) / len(taus) if taus else None,
        math.fsum(shares) / len(shares) if shares else None,
    )
