"""The record of a span layer: the foremost spans of each text, each beside what erasing it does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.occlusion import differences
from lightning_interpret.functional.scope import explaining
from lightning_interpret.functional.spans import sharpness, spans_within, token_weights, top_spans
from lightning_interpret.layers.spans import SpanSite
from lightning_interpret.layers.token_kinds import check_padding
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.describe import described
from lightning_interpret.rationales import Span, SpanExplanation, SpansRow
from lightning_interpret.tasks import Task, batches

_RANDOM = 8  # spans that the foremost one is compared with
_EXACT = 1e-3  # of a prediction that is made from spans alone, relative


def explained(
    module: nn.Module, site: SpanSite, batch: Any, task: Task, which: str, k: int, baseline: Baseline
) -> SpanExplanation:
    """Return a row for each target of the batch; the module is left as it was.

    Args:
        module: The module; it may be in training mode.
        site: Where its span layer is.
        batch: A batch, on whatever device.
        task: How module and batch are read.
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        k: How many spans.
        baseline: What stands at tokens that are erased.
    """
    device = next(module.parameters()).device
    with explaining(module, full_precision=True), torch.no_grad():
        batch = batches.to_full_precision(batches.clone(batches.to(batch, device)))
        facts = described(module, batch, task)
        with open_case(
            module, batch, task, layer=None, which=which, output="logit", baseline=baseline, chunk=None
        ) as case:
            weights, tokens, pooled = _read(module, site, batch, task)
            check_padding("span_layer", tokens, case.units.padding)
            of = case.targets.example
            rows = _Rows(case, weights[of], tokens[of], site.pool.width, k)
            lost = rows.erased()
            past = _past_the_spans(site, case, pooled[of])
            return SpanExplanation(
                tuple(rows.row(i, facts[int(of[i])], lost, float(past[i]), task) for i in range(len(of)))
            )


def _read(module: nn.Module, site: SpanSite, batch: Any, task: Task) -> tuple[Tensor, Tensor, Tensor]:
    """Return weights, tokens and H of each example."""
    site.seen = []
    try:
        task.logits(module, batch)
        seen = site.seen
    finally:
        site.seen = None
    if len(seen) != 1:
        raise ValueError(
            f"The span layer runs {len(seen)} times in a forward pass of {type(module).__name__}, and must run once: "
            "name another `span_layer=`."
        )
    return seen[0]


def _past_the_spans(site: SpanSite, case: Case, pooled: Tensor) -> Tensor:
    """Return how the target moves where the whole text is erased and H stays what it was, ``(N,)``.

    It is 0 where nothing but H is read.
    """
    moved = torch.zeros(len(pooled), dtype=torch.float64)
    content = ~(case.units.special | case.units.padding)
    try:
        for rows in case.order.split(case.chunk):
            site.fixed = pooled[rows.to(pooled.device)]
            moved[rows] = case.without(rows, content[rows]).double().cpu() - case.target[rows].double().cpu()
    finally:
        site.fixed = None
    return moved


class _Rows:
    """The foremost spans of N rows and random ones as long, and the rows of the record."""

    def __init__(self, case: Case, weights: Tensor, tokens: Tensor, width: int, k: int) -> None:
        self.case, self.weights, self.width = case, weights.cpu(), width
        self.there = spans_within(tokens.cpu(), weights.shape[2])
        self.values, self.starts, self.ends = top_spans(self.weights, self.there, k)
        self.randoms = [self._random(i) for i in range(len(weights))]

    def _random(self, row: int) -> Tensor:
        """Return where some other spans begin that are as long as the foremost one of a row."""
        length = int(self.ends[row, 0] - self.starts[row, 0])
        others = self.there[row, :, length - 1].nonzero().flatten()
        others = others[others != self.starts[row, 0]]
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))
        return others[order[:_RANDOM]]

    def erased(self) -> tuple[Tensor, list[float | None]]:
        """Return by how much the target falls without each of the spans, ``(N, k)``, and without random ones."""
        shown = self.values >= 0
        length = (self.ends - self.starts)[:, 0]
        which = [shown.nonzero()[:, 0], *(torch.full((len(r),), i) for i, r in enumerate(self.randoms))]
        starts = torch.cat([self.starts[shown], *self.randoms])
        ends = torch.cat([self.ends[shown], *(r + length[i] for i, r in enumerate(self.randoms))])
        rows, places = torch.cat(which), torch.arange(self.weights.shape[1])
        units = (places >= starts[:, None]) & (places < ends[:, None])
        rank = torch.empty_like(self.case.order)
        rank[self.case.order] = torch.arange(len(rank))
        order = rank[rows].argsort(stable=True)  # those of a pass have as little padding as can be
        sets = ((rows[part], units[part]) for part in order.split(self.case.chunk) if len(part))
        lost = torch.empty(len(rows), dtype=torch.float64)
        lost[order] = differences(self.case.without, self.case.target, sets).cpu()
        found = torch.zeros(shown.shape, dtype=torch.float64)
        found[shown] = lost[: int(shown.sum())]
        others = lost[int(shown.sum()) :].split([len(each) for each in self.randoms])
        return found, [float(each.mean()) if len(each) else None for each in others]

    def row(
        self, i: int, facts: dict[str, Any], lost: tuple[Tensor, list[float | None]], past: float, task: Task
    ) -> SpansRow:
        """Return a row with its padding stripped."""
        case, units = self.case, self.case.units
        kept = (~units.padding[i]).nonzero().flatten().tolist()
        place = {column: n for n, column in enumerate(kept)}
        spans = []
        for value, start, end, fall in zip(
            *(each[i].tolist() for each in (self.values, self.starts, self.ends, lost[0])), strict=True
        ):
            if value >= 0:
                text = _text(task, units.texts[i][start:end])
                spans.append(Span(place[start], place[start] + end - start, value, text, fall))
        weights, target, control = token_weights(self.weights[i : i + 1])[0].tolist(), float(case.target[i]), lost[1][i]
        considered, sharp = int(self.there[i].sum()), float(sharpness(self.weights[i : i + 1]))
        notes, reasons = case.described["notes"][i], dict(case.described["reasons"])
        if control is None:
            reasons["control"] = "there is no other span as long as the foremost one"
        if considered > 1 and 1 / sharp > considered / 2:
            notes = (*notes, f"the weights of {considered} spans are nearly even, as those of {1 / sharp:.0f} would be")
        if abs(past) > _EXACT * max(1.0, abs(target)):
            notes = (*notes, f"the text is read past its spans too: erased, with the spans kept, {past:+.3g}")

        def per_token(values: Any) -> tuple:
            return tuple(values[column] for column in kept)

        return SpansRow(
            **facts,
            tokens=per_token(units.texts[i]),
            word_ids=per_token(units.word_ids[i]),
            words=units.words[i],
            special=per_token(units.special[i].tolist()),
            offsets=None if units.offsets is None else per_token(units.offsets[i]),
            segment=None if units.segment is None else per_token(units.segment[i].tolist()),
            spans=tuple(spans),
            considered=considered,
            width=self.width,
            sharpness=sharp,
            token_weights=per_token(weights),
            target_name=case.targets.name[i],
            target=target,
            control=control,
            notes=notes,
            reasons=reasons,
        )


def _text(task: Any, tokens: tuple[str, ...]) -> str:
    """Return tokens as their tokenizer joins them."""
    join = getattr(getattr(task, "tokenizer", None), "convert_tokens_to_string", " ".join)
    return str(join(list(tokens))).strip()
