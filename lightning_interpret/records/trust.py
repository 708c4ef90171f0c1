"""The record of a comparison: how far each of several methods can be trusted on one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from lightning_interpret.records.row import Row


@dataclass(frozen=True)
class TrustedMethod:
    """What the probes say of one method, means over those that it explained.

    Attributes:
        name: Its name, with options where two settings of it are compared.
        figures: By name; one that is not known is missing, and ``reasons`` says why.
        probes: How many probes it explained.
        gain: By how much its order is more faithful than a random one: half of what the comprehensiveness is above
            the control's and the sufficiency below it, in probability of the class.
        gain_error: The standard error of ``gain`` over probes.
        p: One-sided p-value of the paired sign-flip test that ``gain`` is 0, of this method alone.
        failed: Why it explained no probe, or not all of them.
        reasons: By figure, why it is missing.
    """

    name: str
    figures: Mapping[str, float] = field(default_factory=dict)
    probes: int = 0
    gain: float | None = None
    gain_error: float | None = None
    p: float | None = None
    failed: str | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Agreement:
    """How far two methods say the same of the probes.

    Attributes:
        first: A method.
        second: Another.
        kendall: Mean of Kendall's τ-b of their scores; ``None`` where no probe has an order.
        common: Mean share of the largest tokens, by size, that they have in common.
    """

    first: str
    second: str
    kendall: float | None
    common: float | None


@dataclass(frozen=True)
class Drill:
    """What became of a cue that was planted in the training rows of a copy of the model.

    Attributes:
        cue: The token.
        label: The class that it was planted for.
        share: Share of the training rows that it was planted in.
        steps: Steps that the copy was trained.
        accuracy: Of the copy on the test rows as they are.
        accuracy_cue: The same with the cue in every one of them.
        flipped: Test rows whose prediction the cue turned to its class.
        could: Test rows of other classes whose prediction it could have turned.
        first: By method, the share of flipped rows in which the cue scores highest (precision at 1).
        found: By method, the share in which it is among the ``k`` highest.
        k: How many those are.
        chance: What ``first`` and ``found`` are of a random order.
        seconds: What it all took.
        invalid: Why it says nothing; ``None`` where it does.
        asked: Flipped rows that the methods were asked of: all, or as many as there was time for.
    """

    cue: str
    label: str
    share: float
    steps: int
    accuracy: float | None = None
    accuracy_cue: float | None = None
    flipped: int = 0
    could: int = 0
    first: Mapping[str, float] = field(default_factory=dict)
    found: Mapping[str, float] = field(default_factory=dict)
    k: int = 3
    chance: tuple[float, float] | None = None
    seconds: float = 0.0
    invalid: str | None = None
    asked: int = 0


@dataclass(frozen=True, kw_only=True)
class TrustRow(Row):
    """Several methods on the same probes: a table, their agreement, a drill, and one recommendation.

    Attributes:
        methods: The methods, in the order in which they were named.
        control: The same figures of orders drawn at random.
        agreement: Of each pair of methods.
        drill: What became of a planted cue; ``None`` where there was no drill.
        recommended: The method that is recommended; ``None`` where none can be.
        because: The reasons, a sentence each.
        probes: How many examples there were.
        baseline: What stood where a token was erased.
        which: What was explained.
        output: What of it was attributed.
        tolerance: Relative attribution error up to which a method adds up.
    """

    kind: ClassVar[str] = "trust"
    parts: ClassVar[Mapping[str, type]] = {
        "methods": TrustedMethod,
        "control": TrustedMethod,
        "agreement": Agreement,
        "drill": Drill,
    }

    methods: tuple[TrustedMethod, ...] = ()
    control: TrustedMethod | None = None
    agreement: tuple[Agreement, ...] = ()
    drill: Drill | None = None
    recommended: str | None = None
    because: tuple[str, ...] = ()
    probes: int = 0
    baseline: str | None = None
    which: str = "predicted"
    output: str = "logit"
    tolerance: float = 0.05
