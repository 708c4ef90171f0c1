"""One recommendation from a table, by rules that it states: the same table has the same one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from lightning_interpret.functional.concept_tests import corrected
from lightning_interpret.records.trust import Drill, TrustedMethod

#: One-sided p-value up to which an order is more faithful than a random one.
LEVEL = 0.05
#: Rank correlation with the scores of a model with random weights, in size, from which a method is not about the model.
UNMOVED = 0.5


def recommend(
    methods: Sequence[TrustedMethod],
    control: TrustedMethod | None = None,
    *,
    drill: Drill | None = None,
    tolerance: float = 0.05,
) -> tuple[str | None, tuple[str, ...]]:
    """Return the method that is recommended, or ``None``, and the reasons, a sentence each.

    A method is left out if it

    1. fails at a probe,
    2. has a relative attribution error above ``tolerance`` (one without a target only ranks, and is not left out),
    3. is no more faithful than a random order: p of its gain is above 0.05 (paired sign-flip test over probes, Holm's
       correction for how many methods are asked),
    4. says much the same of a model with random weights: |rank correlation| of at least 0.5,
    5. finds a planted cue, where the drill is valid, no more often than a random order.

    Of those that remain the best has the best mean rank by comprehensiveness and sufficiency, then the least seconds,
    then the first name. Who has the same rank is said, and who has a gain within the standard error of the difference
    (as if the two had other probes: of the same ones it is mostly less).

    Args:
        methods: What the probes say of each method.
        control: What they say of a random order.
        drill: What became of a planted cue.
        tolerance: Relative attribution error up to which a method adds up.
    """
    methods = _corrected(methods)
    faults = {each.name: _fault(each, drill, tolerance) for each in methods}
    left_out = [f"{name} is left out: {fault}." for name, fault in faults.items() if fault is not None]
    if drill is not None and drill.invalid is not None:
        left_out.append(f"The drill says nothing: {drill.invalid}.")
    remaining = [each for each in methods if faults[each.name] is None]
    if not remaining:
        few = max((each.probes for each in methods), default=0)
        said = "None of these methods can be recommended on this model."
        if 0 < few < (least := _least_probes(sum(each.p is not None for each in methods))):
            said += f" With {few} probes no order can be told from a random one: ask for {least} or more."
        return None, (said, *left_out)
    ranks = _mean_ranks(remaining)
    ordered = sorted(remaining, key=lambda each: (round(ranks[each.name], 9), _seconds(each), each.name))
    best, others = ordered[0], ordered[1:]
    return best.name, (*_for(best, control, tolerance, len(remaining)), *_beside(best, others, ranks), *left_out)


def _corrected(methods: Sequence[TrustedMethod]) -> list[TrustedMethod]:
    """Return the methods with p corrected for how many have one."""
    p = corrected(torch.tensor([math.nan if each.p is None else each.p for each in methods], dtype=torch.float64))
    return [each if each.p is None else replace(each, p=q) for each, q in zip(methods, p.tolist(), strict=True)]


def _fault(each: TrustedMethod, drill: Drill | None, tolerance: float) -> str | None:
    figures = each.figures
    if each.failed is not None or not each.probes:
        return f"it failed ({(each.failed or 'no probe was explained').rstrip('.')})"
    error = figures.get("relative_error")
    if error is not None and error > tolerance:
        return f"its scores miss what they attribute by {error:.1%}, and {tolerance:.1%} is tolerated"
    if each.p is None or each.gain is None:
        return f"its faithfulness is not known ({each.reasons.get('comprehensiveness', 'no probe says')})"
    if each.p > LEVEL:
        return f"it is no more faithful than a random order (gain {each.gain:+.3f}, corrected p = {each.p:.2g})"
    unmoved = figures.get("randomisation")
    if unmoved is not None and abs(unmoved) >= UNMOVED:
        return f"it says much the same of a model with random weights (rank correlation {unmoved:+.2f})"
    if drill is not None and drill.invalid is None and drill.chance is not None:
        found = drill.found.get(each.name)
        if found is not None and found <= drill.chance[1]:
            return f"it finds a planted cue in {found:.0%} of the texts, and a random order in {drill.chance[1]:.0%}"
    return None


def _mean_ranks(methods: Sequence[TrustedMethod]) -> dict[str, float]:
    """Return the mean of the ranks by comprehensiveness and sufficiency, 1 the best; of equal ones the mean rank."""

    def ranks(values: Mapping[str, float]) -> dict[str, float]:
        return {
            name: sum(other < value for other in values.values())
            + (sum(other == value for other in values.values()) + 1) / 2
            for name, value in values.items()
        }

    lost = ranks({each.name: -each.figures.get("comprehensiveness", -math.inf) for each in methods})
    enough = ranks({each.name: each.figures.get("sufficiency", math.inf) for each in methods})
    return {name: (lost[name] + enough[name]) / 2 for name in lost}


def _for(best: TrustedMethod, control: TrustedMethod | None, tolerance: float, remaining: int) -> tuple[str, ...]:
    known = best.figures
    error = known.get("relative_error")
    adds = (
        f"It adds up: its scores miss what they attribute by {error:.2%} (tolerated: {tolerance:.1%})."
        if error is not None
        else "It ranks only: its scores are no amounts, and have no target that they could miss."
    )
    random = {} if control is None else control.figures
    beside = {name: f" (random order {random[name]:+.3f})" if name in random else "" for name in known}
    spread = "" if best.gain_error is None else f" ± {best.gain_error:.3f}"
    said = [
        f"{best.name} is recommended, of {remaining} that could be.",
        adds,
        f"It is more faithful than a random order by {best.gain:+.3f}{spread} (corrected p = {best.p:.2g}, "
        f"{best.probes} probes): comprehensiveness {known['comprehensiveness']:+.3f}{beside['comprehensiveness']}, "
        f"sufficiency {known['sufficiency']:+.3f}{beside['sufficiency']}.",
    ]
    if "randomisation" in known:
        said.append(
            f"Of a model with random weights it says another thing: rank correlation {known['randomisation']:+.2f}."
        )
    return tuple(said)


def _beside(best: TrustedMethod, others: Sequence[TrustedMethod], ranks: Mapping[str, float]) -> list[str]:
    """Return who is as good, as far as these probes can tell."""
    said = []
    for each in others:
        if math.isclose(ranks[each.name], ranks[best.name]):
            faster = "which takes longer" if _seconds(each) > _seconds(best) else "which takes as long"
            said.append(f"{each.name} ranks the same, {faster}.")
        elif _told_apart(best, each):
            continue
        else:
            said.append(f"{each.name} is not told apart from it by these probes.")
    return said


def _told_apart(one: TrustedMethod, other: TrustedMethod) -> bool:
    if one.gain is None or other.gain is None:
        return False
    return abs(one.gain - other.gain) > math.hypot(one.gain_error or 0.0, other.gain_error or 0.0)


def _seconds(each: TrustedMethod) -> float:
    return each.figures.get("seconds", math.inf)


def _least_probes(methods: int) -> int:
    """Return from how many probes on one of so many methods can be told from a random order, all signs being right."""
    return math.ceil(math.log2(max(methods, 1) / LEVEL))
