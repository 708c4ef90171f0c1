"""What each influence method is worth on one subject, beside controls that know less: a row each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_interpret.commands.explain import options_from
from lightning_interpret.commands.influence_subject import WEIGHT_DECAY, Subject
from lightning_interpret.functional.fingerprint import digest_of
from lightning_interpret.functional.influence.checkpoints import Checkpoint
from lightning_interpret.functional.influence.datamodels import linear_datamodeling_score
from lightning_interpret.functional.neighbors.labels import disagreement
from lightning_interpret.functional.ranks import area_under_curve, recall_at
from lightning_interpret.methods.influence import INFLUENCE, Fitted, InfluenceMethod
from lightning_interpret.names import choose

CONTROLS = LOSS, NEIGHBOURS, CHANCE = ("training loss", "disagreement of neighbours", "chance")
# all curvature that there is, none, and not even a gradient
_ALSO = ("exact:layers=all", "gradient_similarity:similarity=dot", "feature_similarity")
_K = 10  # neighbours of an example


@dataclass(frozen=True)
class Bench:
    """A subject, and what became of it when it was trained on parts of its data.

    Attributes:
        subject: The model and its data.
        masks: Which examples each training saw, ``(S, n)``.
        outcomes: What came of it, ``(S, R, M)``.
        folder: Where checkpoints are written.
        max_seconds: What the influence of all examples on themselves may take, as the queries' scores let expect.
    """

    subject: Subject
    masks: Tensor
    outcomes: Tensor
    folder: Path
    max_seconds: float = 60.0

    @cached_property
    def key(self) -> str:
        """A digest of all that a row depends on, beside the method."""
        return digest_of(self.subject.key, self.masks, self.outcomes)

    def checkpoints(self) -> list[Checkpoint]:
        """Write some states that training went through, and return their files."""
        return [Checkpoint(file) for file in self.subject.checkpoints(self.folder / "checkpoints")]

    def row(self, name: str, scores: Tensor | None, suspicion: Tensor | None, **facts: Any) -> dict[str, Any]:
        """Return what scores ``(M, n)`` foresee of the outcomes, and which wrong labels a suspicion ``(n,)`` finds."""
        found: dict[str, Any] = {"name": name, **facts}
        if scores is not None:
            each = linear_datamodeling_score(scores, self.masks, self.outcomes)
            known = each[each.isfinite()]
            found |= {"lds": _number(known.mean()), "queries": len(known)}
            found["lds_error"] = _number(known.std() / max(1, len(known)) ** 0.5)
        wrong = self.subject.wrong
        if suspicion is not None and wrong.any() and bool(suspicion.isfinite().all()):
            found["auc"] = area_under_curve(suspicion, wrong)
            found |= {f"recall_{share}": recall_at(suspicion, wrong, share / 100) for share in (10, 20)}
        return found

    def method(self, name: str) -> dict[str, Any]:
        """Return the row of a method ``NAME[:OPTION=VALUE]``; one that cannot be used here says why."""
        subject = self.subject
        try:
            cls, given = parsed(name)
            optimizer = subject.trainer.optimizer(list(subject.module.parameters()))
            run: dict[str, Any] = {"optimizer": optimizer, "checkpoints": self.checkpoints}
            start = time.perf_counter()
            fitted = cls(**given).fit(subject.module, subject.examples, subject.task, weight_decay=WEIGHT_DECAY, **run)
            between = time.perf_counter()
            ids, scores = fitted.matrix(subject.queries)
            end = time.perf_counter()
            table = scores.new_zeros(len(scores), len(subject.wrong)).index_copy_(1, ids, scores)
            expected = (end - between) * len(subject.wrong) / len(scores)
            suspicion = self._self_influence(fitted) if expected <= self.max_seconds else None
        except Exception as error:  # whatever one method lacks here, the others are compared
            return {"name": name, "left_out": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        stated = fitted.approximation
        facts = {key: getattr(stated, key) for key in ("unit", "coverage", "damping", "curvature", "converged")}
        seconds = {"fit_seconds": round(between - start, 3), "score_seconds": round(end - between, 3)}
        if suspicion is None and subject.wrong.any():
            facts["expected_seconds"] = round(expected, 3)
            facts["note"] = f"self-influence would take some {expected:,.0f} s: raise `--max-seconds`"
        return self.row(name, table, suspicion, **facts, **seconds)

    def control(self, name: str) -> dict[str, Any]:
        """Return the row of one of ``CONTROLS``.

        What judges an example by itself foresees the same for every query: that the example harms by as much.
        """
        queries, count = len(self.subject.outcome.labels), len(self.subject.wrong)
        start = time.perf_counter()
        if name == CHANCE:
            drawn = torch.randn(queries + 1, count, generator=torch.Generator().manual_seed(self.subject.seed))
            return self.row(name, drawn[1:], drawn[0])
        found = self._losses() if name == LOSS else self._disagreement()
        seconds = round(time.perf_counter() - start, 3)
        return self.row(name, -found.expand(queries, -1), found, score_seconds=seconds)

    def _self_influence(self, fitted: Fitted) -> Tensor:
        ids, own = fitted.self_influence()
        return own.new_zeros(len(self.subject.wrong)).index_copy_(0, ids, own)

    @torch.no_grad()
    def _losses(self) -> Tensor:
        train = self.subject.train
        logits = self.subject.module(train["vectors"])
        return torch.nn.functional.cross_entropy(logits, train["labels"], reduction="none")

    @torch.no_grad()
    def _disagreement(self) -> Tensor:
        network, train = self.subject.module, self.subject.train
        assert isinstance(network, torch.nn.Sequential)
        hidden = network[:-1](train["vectors"])
        parts = disagreement(hidden, train["example_id"], train["labels"], _K)
        return torch.cat([share for _, share in parts])


def chosen(names: Sequence[str] | None) -> list[str]:
    """Return the methods to compare, each ``NAME[:OPTION=VALUE]``: those asked for, or all that there are.

    Raises:
        ValueError: If a name or an option does not exist.
    """
    found = (
        list(dict.fromkeys(names))
        if names
        else [*sorted(name for name, method in INFLUENCE.items() if method.of_loss), *_ALSO]
    )
    for name in found:
        parsed(name)
    return found


def parsed(name: str) -> tuple[type[InfluenceMethod], dict[str, Any]]:
    """Return the class and the options of ``NAME[:OPTION=VALUE]``."""
    first, *settings = name.split(":")
    cls = INFLUENCE[choose("--methods", first, INFLUENCE)]
    return cls, options_from(cls, settings, "--methods")


def _number(value: Tensor) -> float | None:
    return float(value) if value.isfinite() else None
