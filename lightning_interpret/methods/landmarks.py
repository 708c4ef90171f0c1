"""LandmarkRelevance: a prediction of a kernel layer handed back to its landmarks, real training examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Landmarks, LandmarksRow, TrainingExample
from lightning_interpret.explanations import Attribution, AttributionRow
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.layers import plain_name
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.nystroem import Landmark, NystroemLayer
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.describe import described
from lightning_interpret.methods.landmark_tasks import resembling, without_units
from lightning_interpret.methods.layerwise_relevance import LayerwiseRelevance, told_apart
from lightning_interpret.names import check_whole, unknown
from lightning_interpret.tasks import Task, batches

#: The note on a prediction that no landmark speaks for.
NOTHING_SPEAKS = "nothing among the landmarks speaks for it"


#: Smoothing by which landmarks that are alike speak alike, where nothing else is asked for.
READABLE = 0.1


@dataclass(frozen=True)
class LandmarkRelevance:
    """The landmarks that speak for a prediction, and those that speak against it (KDA: Croce et al., 2019).

    The score F(x) is handed back by layer-wise relevance propagation from the head through the projection and the
    Nyström factor to the kernel values c, one a landmark: F(x) = Σ scores + Σ absorbed. Biases keep their share, which
    is in ``absorbed`` by name. Evidence against the prediction keeps its sign, and nothing is normalised: scores are in
    units of the logit, and may each be larger than it, as the factor tells near landmarks apart by differences: where
    the foremost landmark seldom has the predicted label (``docs/relevance.md`` has figures) train with a larger
    ``kernel_rtol``, or use ``smoothing``.

    Args:
        rule: ``epsilon`` for a head without attention, ``attn_lrp`` or ``cp_lrp`` where attention follows the kernel
            layer, or another of :class:`LayerwiseRelevance`.
        epsilon: Stabiliser ε. With 0, the default, Σ scores misses F(x) by what biases take alone; 0.01 takes a share
            of F(x) itself, which is told as ``epsilon``.
        smoothing: With 0, the default, the coefficients g of the landmarks, R = c ⊙ g, are the model's own, which
            with landmarks near each other are large and of either sign. With λ > 0 they are those of the kernel ridge
            regression of what the model says at its landmarks, K (K + λI)⁻¹ g with λ in units of the mean k(x, x):
            smaller, and alike for landmarks that are alike. What the fit misses is absorbed as ``smoothing``.
        k: Most landmarks that are told of each side.
        tokens: Whether to go on down to the units of the query (the tokens of a text): the same score F(x) handed back
            through the encoder by ``token_rule``, too. What is absorbed on that way is in ``notes``. A radial kernel
            k = 1 + (k − 1) keeps the 1, the value at the landmark itself, as a constant, and hands the rest on to the
            squared distance and its summands.
        token_rule: Rule of that way.
        layer: Name of the kernel layer, in a module that has several.

    Raises:
        ValueError: If an option is out of its range; on a call, if the module has no kernel layer, the class does not
            exist, or the output is a probability.
        RuntimeError: On a call, if the layer has no landmarks yet.
    """

    rule: Literal["attn_lrp", "cp_lrp", "epsilon", "gamma", "alpha1_beta0"] = "epsilon"
    epsilon: float = 0.0
    smoothing: float = 0.0
    k: int = 5
    tokens: bool = False
    token_rule: Literal["attn_lrp", "cp_lrp", "epsilon", "gamma", "alpha1_beta0"] = "attn_lrp"
    layer: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of its range."""
        check_whole(k=self.k)
        if not 0 <= self.smoothing < math.inf:
            raise ValueError(f"`smoothing={self.smoothing!r}` must be 0 or more, and finite.")
        LayerwiseRelevance(rule=self.rule, epsilon=self.epsilon)
        LayerwiseRelevance(rule=self.token_rule)

    def __call__(
        self, module: nn.Module, batch: Any, task: Task, *, which: str = "predicted", output: str = "logit"
    ) -> Landmarks:
        """Return a row for each target of the batch; the module is left as it was.

        Args:
            module: The module with a kernel layer; it may be in training mode.
            batch: A batch as the task reads it, on the module's device.
            task: How module and batch are read.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            output: ``logit`` or ``margin``.
        """
        name = self.check(module)
        kernel = find_layer(module, name)
        assert isinstance(kernel, NystroemLayer)
        engine = LayerwiseRelevance(rule=self.rule, epsilon=self.epsilon)
        with explaining(module):
            batch = batches.clone(batch)
            engine.check(module, task, [], output)
            facts = described(module, batch, task)
            gram = f"{name}.gram"
            read = without_units(task, gram)
            with open_case(
                module, batch, read, layer=gram, which=which, output=output, baseline=None, chunk=None
            ) as case:
                gradients, absorbed = engine.gradients(module, case)
                rows = self._rows(kernel, case, gradients, absorbed, facts)
            if self.tokens:
                rows = self._with_tokens(rows, module, batch, task, which, output)
        return Landmarks(tuple(rows))

    def resemblance(self, module: nn.Module, batch: Any, task: Task, landmark: int) -> Attribution:
        """Return why each query is like one landmark: k(query, landmark) handed back to the query's units.

        Args:
            module: The module with a kernel layer.
            batch: A batch as the task reads it, on the module's device.
            task: How module and batch are read.
            landmark: The id of its example; its place where the layer was given no ids.

        Raises:
            ValueError: If there is no such landmark, or the kernel or the encoder has no rule.
        """
        name = self.check(module)
        kernel = find_layer(module, name)
        assert isinstance(kernel, NystroemLayer)
        ids = [_id(j, each) for j, each in enumerate(kernel.landmarks)]
        if landmark not in ids:
            raise ValueError(unknown("landmark", landmark, ids))
        place = ids.index(landmark)
        called = kernel.landmarks[place].text or f"example {landmark}"
        with explaining(module):
            batch = batches.clone(batch)
            values = resembling(task, module, batch, f"{name}.gram", place, f"like {called!r}")
            found: Attribution = LayerwiseRelevance(rule=self.token_rule)(module, batch, values)
        return found

    def check(self, module: nn.Module) -> str:
        """Return the name of the kernel layer.

        Raises:
            ValueError: If there is none, or there are several and ``layer`` names none of them.
        """
        names = [plain_name(name) for name, part in module.named_modules() if isinstance(part, NystroemLayer)]
        if not names:
            raise ValueError(
                f"{type(module).__name__} has no kernel layer, and so no landmarks: add `KernelMixin` to its bases, or "
                "put a `NystroemLayer` before its head."
            )
        if self.layer is None and len(names) > 1:
            raise ValueError(f"{type(module).__name__} has several kernel layers ({', '.join(names)}): choose `layer`.")
        if self.layer is not None and self.layer not in names:
            raise ValueError(unknown("layer", self.layer, names))
        return self.layer or names[0]

    def _rows(
        self,
        kernel: NystroemLayer,
        case: Case,
        gradients: Tensor,
        absorbed: list[dict[str, Tensor]],
        facts: list[dict[str, Any]],
    ) -> list[LandmarksRow]:
        values, coefficients = case.inputs.cpu().double(), gradients.cpu().double()
        scores = exact = _over_places(values * coefficients)
        if self.smoothing:
            smoothed = coefficients @ smoothing_matrix(kernel.factor.cpu(), self.smoothing, kernel.rtol)
            scores = _over_places(values * smoothed)
        similarity = values.tolist() if values.dim() == 2 else [None] * len(scores)
        error = exact.sum(dim=1) - case.target.cpu().double()
        lost = (exact - scores).sum(dim=1).tolist()
        rows = []
        for i, taken in enumerate(told_apart(absorbed, error, exact)):
            if self.smoothing:
                taken["smoothing"] = lost[i]
            known, each = facts[int(case.targets.example[i])], scores[i].tolist()
            like, unlike = _sides(kernel.landmarks, each, similarity[i], self.k)
            rows.append(
                LandmarksRow(
                    **known,
                    like=like,
                    unlike=unlike,
                    target_name=case.targets.name[i],
                    target=float(case.target[i]),
                    absorbed=taken,
                    error=float(error[i]) - lost[i] + sum(taken.values()),
                    kernel=kernel.kernel,
                    landmarks=len(each),
                    positive=sum(score > 0 for score in each),
                    magnitude=sum(map(abs, each)),
                    approximation_error=kernel.gram_error,
                    notes=(*case.described["notes"][i], *(() if like else (NOTHING_SPEAKS,))),
                    reasons=case.described["reasons"] | _reasons(kernel),
                )
            )
        return rows

    def _with_tokens(
        self, rows: list[LandmarksRow], module: nn.Module, batch: Any, task: Task, which: str, output: str
    ) -> list[LandmarksRow]:
        """Return the rows with the relevance of the query's own units, or with the reason why there is none."""
        try:
            found = LayerwiseRelevance(rule=self.token_rule)(module, batch, task, which=which, output=output)
        except ValueError as error:  # an encoder without rules, a kernel of raw inputs: the landmarks are told
            return [replace(row, reasons={**row.reasons, "tokens": str(error)}) for row in rows]
        return [
            replace(row, tokens=of.tokens, scores=of.scores, notes=(*row.notes, _way(of)))
            for row, of in zip(rows, found, strict=True)
        ]


def smoothing_matrix(factor: Tensor, smoothing: float, rtol: float) -> Tensor:
    """Return K (K + λI)⁻¹ with λ = ``smoothing`` · mean k(x, x), ``(l, l)`` in double precision.

    Args:
        factor: K^(−1/2), with the eigenvalues of K under ``rtol`` times the largest dropped.
        smoothing: λ as a share of the mean of K's diagonal.
        rtol: The threshold.
    """
    values, vectors = torch.linalg.eigh(factor.double())
    kept = values > 0.5 * rtol**0.5 * values[-1]
    values, vectors = values[kept] ** -2, vectors[:, kept]
    shrunk = values / (values + smoothing * values.sum() / len(factor))
    return (vectors * shrunk) @ vectors.T


def _over_places(relevance: Tensor) -> Tensor:
    """Return relevance ``(N, l)`` of ``(N, l)``, or of ``(N, T, l)`` by its sum."""
    return relevance.flatten(1, -2).sum(dim=1) if relevance.dim() > 2 else relevance


def _sides(
    landmarks: Sequence[Landmark], scores: list[float], similarity: list[float] | None, k: int
) -> tuple[tuple[TrainingExample, ...], ...]:
    """Return the landmarks of the k largest and of the k smallest scores, as far as they are positive and negative."""
    order = sorted(range(len(scores)), key=lambda j: -scores[j])  # of equal ones, the first first

    def told(j: int) -> TrainingExample:
        known = landmarks[j]
        return TrainingExample(
            example_id=_id(j, known),
            score=scores[j],
            text=known.text,
            gold=known.label,
            similarity=None if similarity is None else similarity[j],
        )

    like = tuple(told(j) for j in order[:k] if scores[j] > 0)
    return like, tuple(told(j) for j in order[::-1][:k] if scores[j] < 0)


def _id(place: int, landmark: Landmark) -> int:
    return place if landmark.example_id is None else landmark.example_id


def _reasons(kernel: NystroemLayer) -> dict[str, str]:
    named = all(each.example_id is not None for each in kernel.landmarks)
    return {} if named else {"like": "the layer was given no ids of its landmarks: they are named by their place"}


def _way(row: AttributionRow) -> str:
    taken = [f"{kind} {amount:+.3g}" for kind, amount in (row.absorbed or {}).items()]
    return f"on the way to the tokens: Σ tokens {sum(row.scores):+.3g}, absorbed by {', '.join(taken) or 'nothing'}"
