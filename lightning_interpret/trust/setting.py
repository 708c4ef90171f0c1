"""How methods are compared, and which: options, and names that tell two settings of one method apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.faithfulness import BINS
from lightning_interpret.methods import Method, method_named
from lightning_interpret.methods.perturbed import CHANGE
from lightning_interpret.names import check_seed, check_whole, choose
from lightning_interpret.tasks import OUTPUTS, Generation, Regression, Task

#: What is compared where nobody says what: a gradient, its product with the input, a path, erasure, relevance.
DEFAULT = ("integrated_gradients", "gradient_times_input", "gradient", "occlusion", "layerwise_relevance")

_TOGETHER = r" (sequence|\d+:\d*)$"  # how `which` ends that explains several written tokens together


@dataclass(frozen=True)
class Setting:
    """What methods are asked, and what they are measured by.

    Args:
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``: what is attributed. Erasure is measured in what
            :func:`measured_in` says, mostly ``prob``.
        baseline: What stands where a token is erased, for every method the same; by default the task's.
        bins: Shares of the tokens that are erased, whole percent.
        share: Share of the tokens that is taken as a method's rationale beside a gold one, whole percent.
        top: How many of the largest tokens of two methods are compared.
        orders: Random orders that the control is a mean of.
        randomised: Whether each method is asked a second time, with the weights re-initialised: as costly as the first.
        sensitivity: How often each method is asked of inputs that hardly differ, for its max-sensitivity; 0 for never.
        seed: Seed of the random orders, of those weights and of that noise.

    Raises:
        ValueError: If an option is out of its range.
    """

    which: str = "predicted"
    output: str = "logit"
    baseline: str | Baseline = "default"
    bins: tuple[int, ...] = BINS
    share: int = 20
    top: int = 5
    orders: int = 5
    randomised: bool = True
    sensitivity: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        choose("output", self.output, OUTPUTS)
        check_whole(share=self.share, top=self.top, orders=self.orders)
        check_whole(0, sensitivity=self.sensitivity)
        for name, shares in (("share", (self.share,)), ("bins", self.bins)):
            if not shares or any(not 1 <= each <= 100 for each in shares):
                raise ValueError(f"`{name}={getattr(self, name)!r}` must be whole percent from 1 to 100.")
        check_seed(self.seed)
        if Baseline.ensure(self.baseline).kind == "distribution":
            raise ValueError(
                f"`baseline={self.baseline!r}`: an erased token is replaced by one thing. Name one baseline."
            )


def measured_in(task: Task, which: str) -> str:
    """Return what is lost where tokens are erased: an output of :class:`.Perturbed`.

    The probability of what is explained, ``prob``; of a text that is written, or a span of it, its log probability; of
    a number, which has none, by how much it changes.
    """
    if isinstance(task, Regression):
        return CHANGE
    return "log_prob" if isinstance(task, Generation) and re.search(_TOGETHER, which) else "prob"


def measured_said(measured: str) -> tuple[str, ...]:
    """Return a note on what erasure is measured in, where it is no probability of a prediction."""
    said = {
        "log_prob": "erasure is measured in the log probability of all that is written",
        CHANGE: "erasure is measured in how far the number moves, of tokens in the order of the size of their scores",
    }
    return (said[measured],) if measured in said else ()


def named_methods(methods: Iterable[str | Method]) -> dict[str, Method]:
    """Return methods by name; of two settings of one method each is named with the options that are not the default.

    Raises:
        ValueError: If there is none, they are no list, a name does not exist, or two are the same.
    """
    if isinstance(methods, str):
        raise ValueError(f"`methods={methods!r}` must be a list of names: give [{methods!r}].")
    found = [method_named(each) for each in methods]
    if not found:
        raise ValueError("`methods` is empty: name one or more, such as 'integrated_gradients'.")
    alone = [sum(each.name == other.name for other in found) == 1 for each in found]
    names = [each.name if single else _with_options(each) for each, single in zip(found, alone, strict=True)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"`methods` names {twice[0]!r} twice with the same options: leave one of them out.")
    return dict(zip(names, found, strict=True))


def settings_said(methods: Mapping[str, Method]) -> tuple[str, ...]:
    """Return of each method that is not named with its options, and has some of its own, a note that says them."""
    said = {name: _with_options(method) for name, method in methods.items()}
    return tuple(f"{name} is asked as {full}" for name, full in said.items() if full != name)


def _with_options(method: Method) -> str:
    plain: Any = type(method)()
    given = {f.name: getattr(method, f.name) for f in fields(method)}
    changed = {name: value for name, value in given.items() if value != getattr(plain, name)}
    said = (f"{name}={value.name if isinstance(value, Baseline) else value}" for name, value in changed.items())
    return ":".join([method.name, *said])
