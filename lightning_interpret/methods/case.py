"""What a method works on: the features at x and x', the scalars there, and the function between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution, Units
from lightning_interpret.functional import path
from lightning_interpret.functional.baselines import CONFIDENT, Baseline
from lightning_interpret.functional.features import Features, features, same_layer
from lightning_interpret.methods.absent import absent
from lightning_interpret.tasks import Targets, Task

if TYPE_CHECKING:
    from lightning_interpret.methods.base import Method

#: Tokens in one pass, where a method is not told how many points: large enough to keep a processor busy, and on a CPU
#: no larger, as the fewer texts a pass has, the less padding it needs.
TOKENS_A_PASS = {"cpu": 2048, "cuda": 4096}
#: Locations of images in one pass: of 224 x 224 pixels each 2 images on a CPU, and 41 on a GPU.
LOCATIONS_A_PASS = {"cpu": 2**17, "cuda": 2**21}

#: How the note begins on a row whose baseline is itself classified with a probability of ``CONFIDENT``.
CLASSIFIED = "the baseline is itself classified as"


@dataclass
class Case:
    """One call of a method: the features at x and x', the scalars there, and the function between them.

    Attributes:
        inputs: h(x) for each of the N targets, ``(N, *shape)``.
        baselines: h(x'), same shape, or None where no baseline was asked for.
        target: F(x), ``(N,)``.
        baseline_target: F(x; h := h(x')), ``(N,)``, or None.
        cut: Whether F(x; h := h(x')) is F(x'), or None.
        forwards: ``(N,)``, forward passes without a gradient that each row took; those over references count for none.
        gradients: ``(N,)``, gradients that its baseline took.
        references: h(x') of each baseline of a distribution, ``(N, R, *shape)``, or None.
        chunk: Points in one pass.
        order: The rows by their padding, so that those of a pass have as little of it as can be.
        per_unit: Sums values ``(M, *shape)`` to one a unit, ``(M, T)``.
        score_of: Returns the function for other targets of the same examples, such as the two sides of a contrast.
        opened: The layer, open for other values while the block lasts, and whenever it is entered again.
    """

    layer: str
    output: str
    inputs: Tensor
    target: Tensor
    targets: Targets
    units: Units
    forwards: Tensor
    chunk: int
    score: path.Score
    order: Tensor
    per_unit: Callable[[Tensor], Tensor]
    score_of: Callable[[Targets], path.Score]
    opened: Features
    described: dict[str, Any] = field(default_factory=dict)
    baselines: Tensor | None = None
    baseline_target: Tensor | None = None
    cut: bool | None = None
    gradients: Tensor | int = 0
    references: Tensor | None = None

    @property
    def shared(self) -> Tensor | None:
        """Of which example each row is, long ``(N,)``; None where rows have paths of their own."""
        example = self.targets.example
        alone = not self.targets.one_path or len(example.unique()) == len(example)
        return None if alone else example

    def to_units(self, contributions: Tensor) -> Tensor:
        """Return contributions ``(N, *shape)`` summed to one score a unit; exactly 0 on padding."""
        return self.masked(self.per_unit(contributions))

    def masked(self, scores: Tensor) -> Tensor:
        """Return scores ``(N, T)`` with exactly 0 on padding."""
        return scores.masked_fill(self.units.padding.to(scores.device), 0.0)

    def norm(self, values: Tensor, norm: str) -> Tensor:
        """Return the ``l2`` or ``mean_abs`` of values ``(N, *shape)`` over the features of each unit, ``(N, T)``."""
        if norm == "l2":
            return self.to_units(values.square()).sqrt()
        return self.to_units(values.abs()) / self.to_units(torch.ones_like(values)).clamp(min=1)

    def to_features(self, units: Tensor) -> Tensor:
        """Return which features are of given units, bool ``(M, *shape)`` for bool ``(M, T)``."""
        return self.spread(units) != 0

    def spread(self, values: Tensor) -> Tensor:
        """Return for each feature the value of its unit, ``(M, *shape)`` for ``(M, T)``."""
        zeros = self.inputs.new_zeros(len(values), *self.inputs.shape[1:]).requires_grad_()
        with torch.enable_grad():  # what sums features to units gives, backwards, each feature its unit
            (of,) = torch.autograd.grad(self.per_unit(zeros), zeros, values.to(zeros))
        return of

    def moved(self) -> Tensor:
        """Return which units have other features at x' than at x, bool ``(N, T)`` on the CPU; never padding."""
        assert self.baselines is not None
        differs = (self.inputs != self.baselines).to(self.inputs)
        return (self.per_unit(differs) > 0).cpu() & ~self.units.padding

    def without(self, row: Tensor, units: Tensor) -> Tensor:
        """Return the scalar explained with the units ``(M, T)`` of given rows ``(M,)`` as they are at x'."""
        assert self.baselines is not None
        row = row.to(self.inputs.device)
        return self.score(torch.where(self.to_features(units), self.baselines[row], self.inputs[row]), row)

    def record(self, method: Method, scores: Tensor, **values: Any) -> Attribution:
        """Return the record of ``scores``; ``values`` are fields of :class:`Attribution` that the method knows."""
        zero = torch.zeros(len(self.target), dtype=torch.long)
        known = self.described | {"forwards": self.forwards} | values
        known["gradients"] = values.get("gradients", zero) + self.gradients
        reasons = self.described["reasons"] | values.get("reasons", {})
        if known.get("cut") is None:
            reasons = {"cut": "no h(x') is put in the place of the layer"} | reasons
        if known["baseline"] is not None and known.get("baseline_entropy") is None:
            why = f"there is no x' of {known['baseline']!r} at which a prediction could be read"
            reasons = {"baseline_entropy": why} | reasons
        return Attribution(
            scores=scores,
            target=self.target.double(),
            target_name=self.targets.name,
            output=self.output,
            method=method.name,
            layer=self.layer,
            units=self.units,
            **(known | {"reasons": reasons}),
        )

    def errors(self, scores: Tensor, floor: float, attribution_target: Tensor | None = None) -> dict[str, Any]:
        """Return the fields that say how far the scores miss what they are to sum to.

        Args:
            scores: ``(N, T)``.
            floor: Floor τ of the relative error's denominator.
            attribution_target: T, ``(N,)``; by default F(x) − F(x').
        """
        if self.baseline_target is None and attribution_target is None:
            raise ValueError("Without a baseline there is no target, and so no error.")
        if attribution_target is None:
            assert self.baseline_target is not None
            attribution_target = self.target.double() - self.baseline_target.double()
        error = scores.flatten(1).double().sum(dim=1) - attribution_target
        return {
            "baseline_target": None if self.baseline_target is None else self.baseline_target.double(),
            "attribution_target": attribution_target,
            "error": error,
            "relative_error": path.relative_error(error, attribution_target, floor),
            "error_floor": floor,
            "cut": self.cut,
        }


@contextmanager
def open_case(
    module: nn.Module,
    batch: Any,
    task: Task,
    *,
    layer: str | None,
    which: str,
    output: str,
    baseline: Baseline | None,
    chunk: int | None,
) -> Iterator[Case]:
    """Read module, batch and task at x and at x', and keep the layer open for other values while the block lasts."""
    words = task.layer(module)
    if layer is None or same_layer(module, layer, words):
        layer = words  # by whatever name it was called: hooks on one module twice would hide x' from one another
    units = task.units(batch)
    baseline = None if baseline is None else task.baseline_for(baseline)

    def forward() -> Tensor:
        return task.logits(module, batch)

    shape = (len(units.padding), *(units.shape if units.kind == "token" else ()))
    with features(module, layer, forward, units=shape if layer == words else None) as (opened, logits, inputs):
        with torch.no_grad():
            targets = task.resolve(logits, batch, which)
            target = task.score(logits, targets, output)
        if len(inputs) != len(logits):
            raise ValueError(f"`layer={layer!r}` has shape {tuple(inputs.shape)}: its first dimension is no example.")

        def score_of(explained: Targets) -> path.Score:
            def cropped(points: Tensor, rows: Tensor, columns: Tensor | None, at: Tensor | None) -> Tensor:
                asked, example = explained.at(rows), explained.example[rows]
                if at is not None:  # rows of one example at one point: it is read once
                    asked, example = replace(asked, example=at), example.new_empty(len(points)).scatter(0, at, example)
                some = task.take(batch, example)
                if columns is not None:
                    some, asked = task.crop(some, columns, units.shape[0]), asked.crop(columns)
                    points = points[:, columns.to(points.device)]
                return opened.put(points, lambda: task.scores(module, some, asked, output))

            of_targets, columns = task.score(logits, explained, output), partial(task.columns, batch)
            return _without_padding(cropped, at_x, of_targets, padding, columns, forwards)

        ids, notes = task.example_ids(batch), _notes(task, batch, units)
        of = targets.example.tolist()
        predicted, gold = task.compared(logits, batch, targets)
        layout = task.layout(module, batch, inputs, layer)
        rows = layout.units.take(targets.example.cpu())
        rows = task.read_for(rows, targets) if rows.shape == units.shape else rows
        at_x, forwards = _in_single_precision(inputs)[targets.example], torch.ones(len(of), dtype=torch.long)
        whole = rows.kind == "token" and inputs.shape[1] == units.shape[0]  # a layer of one end has its tokens alone
        padding = rows.padding if whole else torch.zeros(len(of), 0, dtype=torch.bool)
        case = Case(
            layer=layer,
            output=output,
            inputs=at_x,
            target=target,
            targets=targets,
            units=rows,
            forwards=forwards,
            chunk=chunk or _points_a_pass(units, inputs.device.type),
            score=score_of(targets),
            score_of=score_of,
            opened=opened,
            order=padding.flatten(1).sum(dim=1).argsort(stable=True),
            per_unit=layout.per_unit,
            described={
                "prediction": predicted,
                "gold": gold,
                "example_id": None if ids is None else tuple(ids[i] for i in of),
                "box": task.boxes(logits, batch, targets),
                "span": targets.spans if rows.kind == "token" else None,
                "example": targets.example,
                "notes": tuple(notes[i] for i in of),
                "baseline": None if baseline is None else baseline.name,
                "reasons": _reasons(gold, ids),
            },
        )
        if baseline is not None:
            with torch.no_grad():
                names = task.names(logits)
                _read_baseline(case, opened, module, batch, task, words, shape, forward, baseline, inputs, names)
        yield case


def _read_baseline(
    case: Case,
    opened: Features,
    module: nn.Module,
    batch: Any,
    task: Task,
    words: str,
    shape: tuple[int, ...],
    forward: Callable[[], Tensor],
    baseline: Baseline,
    inputs: Tensor,
    predicted: Sequence[str],
) -> None:
    """Fill in h(x'), F(x; h := h(x')), whether that is F(x'), and how decided the model is at x'.

    One x' gives the baseline of every layer: a deeper layer's is what it returns while the word embeddings are those
    of x'. Where the layer is not a cut of the graph (something passes it by), the sum of attributions to it can only be
    F(x) − F(x; h := h(x')), and that is its target.
    """
    with ExitStack() as stack:
        embedded, embeddings = opened, inputs
        if case.layer != words:
            embedded, _, embeddings = stack.enter_context(features(module, words, forward, units=shape))
            case.forwards = case.forwards + 1
        found = absent(
            module, batch, task, baseline, embeddings, put=embedded.put, predicted=predicted, chunk=case.chunk
        )
        many = found.features.shape[1]
        read = []
        flat = found.features.flatten(0, 1)
        for rows in torch.arange(len(flat)).split(len(flat) if many == 1 else case.chunk):
            some = batch if many == 1 else task.take(batch, rows // many)
            read.append(_at(case.layer == words, opened, embedded, flat[rows], partial(task.logits, module, some)))
    reference, logits, at_baseline = (torch.cat(each) for each in zip(*read, strict=True))
    case.forwards = case.forwards + (many if case.layer == words else 2 * many)
    case.gradients = found.gradients[case.targets.example.cpu()]
    if case.layer == words:
        case.cut = True
    else:
        gap = (logits - at_baseline).abs().max() / at_baseline.abs().max().clamp(min=1e-6)
        case.cut = bool(gap < 1e-4)
    at = _in_single_precision(reference).unflatten(0, (-1, many))[case.targets.example]
    targets = [task.score(logits[r::many], case.targets, case.output) for r in range(many)]
    case.baseline_target = torch.stack(targets).double().mean(dim=0).to(targets[0])
    if baseline.kind == "distribution":
        case.references, spread = at, torch.stack(targets).double().std(dim=0, unbiased=False)
        case.described["baseline_spread"] = spread
    else:
        case.baselines = at[:, 0]
    _describe(case, task, at_baseline.unflatten(0, (-1, many)), found.notes)


def _at(
    own: bool, opened: Features, embedded: Features, absent: Tensor, forward: Callable[[], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return h(x'), the logits at h := h(x'), and those at x'."""
    if own:
        logits = opened.put(absent, forward)
        return absent, logits, logits
    at_baseline, reference = opened.read(lambda: embedded.put(absent, forward))
    return reference, opened.put(reference, forward), at_baseline


def _describe(case: Case, task: Task, logits: Tensor, notes: Sequence[tuple[str, ...]]) -> None:
    """Add the entropy of the predictions at x', from logits ``(B, R, C)``, and a note where they are decided."""
    rows, (count, many) = case.targets.example.tolist(), logits.shape[:2]
    known, entropy = task.log_probabilities(logits.flatten(0, 1)), task.entropy(logits.flatten(0, 1))
    said = [list(each) for each in notes]
    if entropy is None:
        why = "there are no probabilities of several classes, one of which the text has"
        case.described["reasons"] = case.described["reasons"] | {"baseline_entropy": why}
    else:
        case.described["baseline_entropy"] = entropy.double().reshape(count, many).mean(dim=1)[case.targets.example]
    if known is not None:
        likely = known.double().exp().unflatten(0, (count, many)).mean(dim=1)
        largest, names = likely.amax(dim=1).tolist(), task.names(likely)
        for each, share, name in zip(said, largest, names, strict=True):
            if share >= CONFIDENT:
                each.append(
                    f"{CLASSIFIED} {name!r} with probability {share:.2f}: what the scores explain is the way from there"
                )
    case.described["notes"] = tuple((*case.described["notes"][i], *said[of]) for i, of in enumerate(rows))


def _without_padding(
    score: Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor],
    inputs: Tensor,
    target: Tensor,
    padding: Tensor,
    kept: Callable[[Tensor], Tensor],
    forwards: Tensor,
) -> path.Score:
    """Return ``score`` with the columns left out that are padding in every row of a pass: ``kept`` says which stay.

    Where the model gives the row with the most padding another score without it, or cannot be run so, they stay. The
    trial is added to that row's ``forwards``.
    """
    if padding.dim() != 2 or not bool(padding.any()):
        return lambda points, rows, at=None: score(points, rows, None, at)

    def columns(rows: Tensor) -> Tensor | None:
        found = kept((~padding[rows.cpu()]).any(dim=0))
        return found if len(found) < padding.shape[1] else None

    shortest = padding.sum(dim=1).argmax()[None].to(inputs.device)
    forwards[shortest.cpu()] += 1
    try:
        with torch.no_grad():
            alone = score(inputs[shortest], shortest, columns(shortest), None)
        same = bool(torch.allclose(alone, target[shortest], rtol=1e-4, atol=1e-5))
    except Exception:  # a model of one length only, a mask of another shape: it says so as it likes
        same = False
    return lambda points, rows, at=None: score(points, rows, columns(rows) if same else None, at)


def _points_a_pass(units: Units, device: str) -> int:
    a_pass = LOCATIONS_A_PASS if units.kind == "location" else TOKENS_A_PASS
    return max(1, a_pass.get(device, a_pass["cuda"]) // max(1, units.shape[0]))


def _in_single_precision(features: Tensor) -> Tensor:
    """Return features in which a path can be told apart: half precision has 8e-3 of error alone."""
    return features if features.dtype == torch.float64 else features.float()


def _notes(task: Task, batch: Any, units: Units) -> list[tuple[str, ...]]:
    """Return the task's notes, and one on every text of which nothing can be absent."""
    nothing = (units.special | units.padding).flatten(1).all(dim=1).tolist()
    said = task.notes(batch) or [()] * len(nothing)
    empty = "the text has no tokens of its own: there is nothing to attribute to"
    return [(*notes, empty) if none else tuple(notes) for notes, none in zip(said, nothing, strict=True)]


def _reasons(gold: object, ids: object) -> dict[str, str]:
    reasons = {} if gold is not None else {"gold": "the batch has no labels"}
    return reasons if ids is not None else reasons | {"example_id": "the batch has no `example_id`"}
