"""The debate about attention as a result: tables for a terminal and as Markdown, and JSON both ways."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

from lightning_interpret.report import markdown, terminal
from lightning_interpret.trust.attention_rows import (
    ALL,
    ORDERS,
    PAIRS,
    SCHEMA,
    AttentionRow,
    pair_name,
    summary,
)

#: Title, heads, lines and what is said below a table.
Table = tuple[str, list[str], list[list[str]], str]


@dataclass(frozen=True)
class AttentionReport:
    """Whether a model's attention explains its answers, measured (Jain and Wallace, 2019, and the replies to it).

    ``print(report)`` shows its tables, :meth:`to_markdown` is the same as Markdown, :meth:`to_dict` is JSON.

    Attributes:
        model: Name of the module's class.
        site: Which attention it is: the module that computes it.
        read: What the weights are of: how many distributions a text has.
        by: ``gold`` or ``predicted``: the classes that the figures are given by.
        settings: What the measurements were made with.
        rows: One for each text.
    """

    model: str
    site: str
    read: str
    by: str
    settings: Mapping[str, Any]
    rows: tuple[AttentionRow, ...]

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The figures of each class and of all, by table."""
        return summary(self.rows)

    def tau(self, first: str, second: str, label: str = ALL) -> float | None:
        """Return the mean τ of two orders over the texts of a class, such as ``tau("attention", "gradient")``."""
        found: float | None = self.summary["agreement"][label][pair_name(first, second)]["mean"]
        return found

    def tables(self) -> list[Table]:
        """Return what is shown, of the parts that were measured."""
        parts = self.settings["parts"]
        shown = {
            "agreement": self._agreement,
            "permutation": self._permuted,
            "adversarial": self._adversarial,
            "erasure": self._erasure,
        }
        return [table for name, make in shown.items() if name in parts for table in make()]

    def __str__(self) -> str:
        parts = [self._head()]
        for title, heads, lines, below in self.tables():
            parts += [f"{title}\n\n{terminal.table(heads, lines)}", below]
        return "\n\n".join([*filter(None, parts), *self._missing()])

    def to_markdown(self) -> str:
        """Return the tables as Markdown."""
        parts = [markdown.escape(self._head(), 400)]
        for title, heads, lines, below in self.tables():
            cells = [[markdown.escape(cell) for cell in line] for line in lines]
            parts += [f"**{title}**", markdown.table([markdown.escape(head) for head in heads], cells), below]
        return "\n\n".join([*filter(None, parts), *(f"- {markdown.escape(line, 400)}" for line in self._missing())])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it, its summary included."""
        own = {name: getattr(self, name) for name in ("model", "site", "read", "by")}
        rows = [row.to_dict() for row in self.rows]
        known = {"schema": SCHEMA, "kind": "attention_report", "settings": dict(self.settings)}
        return known | own | {"summary": self.summary, "rows": rows}

    @classmethod
    def from_dict(cls, written: Mapping[str, Any]) -> Self:
        """Return what :meth:`to_dict` wrote.

        Raises:
            ValueError: If it is something else, or of another schema.
        """
        if written.get("kind") != "attention_report" or written.get("schema") != SCHEMA:
            raise ValueError(
                f"This is kind={written.get('kind')!r}, schema={written.get('schema')!r}, and no attention report of "
                f"schema {SCHEMA}."
            )
        names = ("model", "site", "read", "by", "settings")
        return cls(rows=tuple(map(AttentionRow.from_dict, written["rows"])), **{name: written[name] for name in names})

    def to_json(self) -> str:
        """Return the report as a line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def _head(self) -> str:
        return (
            f"Attention of {self.model}, `{self.site or 'the module itself'}` ({self.read}), over {len(self.rows)} "
            f"texts, by their {self.by} class."
        )

    def _agreement(self) -> list[Table]:
        found = self.summary["agreement"]
        pairs = [pair_name(*pair) for pair in PAIRS]
        lines = [
            [pair, *(_spread(found[label][pair]) for label in found), str(found[ALL][pair]["texts"])] for pair in pairs
        ]
        title = "Rank correlation: Kendall's tau-b, mean ± standard deviation (share with p ≤ .05)"
        return [(title, ["orders", *found, "texts"], lines, "The random order is the control: one number a token.")]

    def _permuted(self) -> list[Table]:
        found = self.summary["permuted"]
        bins = list(found[ALL]["by_largest_weight"])
        lines = [
            [
                label,
                _number(each["mean"]),
                *(_number(each["by_largest_weight"][bin_]["mean"]) for bin_ in bins),
                str(each["texts"]),
            ]
            for label, each in found.items()
        ]
        title = "Permuted attention: median change of the answer (total variation), by a text's largest weight"
        heads = ["class", "every text", *(f"largest {bin_}" for bin_ in bins), "texts"]
        return [(title, heads, lines, f"{self.settings['permutations']} permutations of each text.")]

    def _adversarial(self) -> list[Table]:
        found = self.summary["adversarial"]
        names = ("mean", "median", "p95", "change")
        lines = [[label, *(_number(each[name]) for name in names), str(each["texts"])] for label, each in found.items()]
        title = "Adversarial attention: Jensen-Shannon divergence from the model's own, nats, of at most 0.693"
        below = f"Of those found in {self.settings['steps']} steps, the farthest whose answer is within 0.05."
        return [(title, ["class", "mean", "median", "95 %", "change of the answer", "texts"], lines, below)]

    def _erasure(self) -> list[Table]:
        found = self.summary["erasure"]
        kinds = list(found[ALL]["one"])
        one = [
            [
                label,
                *(_percent(each["one"][kind]) for kind in kinds),
                _percent(each["largest moves more"]),
                str(each["texts"]),
            ]
            for label, each in found.items()
        ]
        orders = [
            [
                order,
                *(
                    f"{_percent(each['orders'][order]['erased'])} ({_percent(each['orders'][order]['flipped'])})"
                    for each in found.values()
                ),
            ]
            for order in ORDERS
        ]
        return [
            (
                "One weight erased, the largest or a random other: whose erasure flips the decision",
                ["class", *kinds, "the largest moves the answer more", "texts"],
                one,
                "",
            ),
            (
                "Weights erased in order until the decision flips: share of a text's (decisions that flip at all)",
                ["order", *found],
                orders,
                "A decision that never flips counts as all weights. Fewer is a better order; random is the control.",
            ),
        ]

    def _missing(self) -> list[str]:
        return [
            f"{what}: {count} of {len(self.rows)} texts left out, {why}"
            for what, reasons in self.summary["left_out"].items()
            for why, count in reasons.items()
        ]


def _spread(found: Mapping[str, Any]) -> str:
    if found["mean"] is None:
        return "–"
    return f"{found['mean']:.3f} ± {found['std']:.3f} ({found['significant']:.0%})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
