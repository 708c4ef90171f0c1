"""Similarity of features: which training examples look to the last layer as a query does. No influence, a control."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.evidence import Approximation
from lightning_interpret.functional.influence.blocks import Block, Gradient
from lightning_interpret.methods.examples import Examples
from lightning_interpret.methods.influence.base import Fitted, InfluenceMethod, Measure
from lightning_interpret.methods.neighbors.features import Reader
from lightning_interpret.names import choose
from lightning_interpret.tasks import Task, batches

_UNITS = {
    "cosine": "cosine of features",
    "euclidean": "1 / (1 + distance of features)",
    "dot": "dot product of features",
}


@dataclass(frozen=True, kw_only=True)
class FeatureSimilarity(InfluenceMethod):
    """Similarity of the features that the last linear layer reads: neighbours, with no gradient at all.

    The control of every influence method (Hanawa et al., 2021), and as ``Rerank(first=...)`` the
    neighbours that curvature ranks anew. A score says nothing of a removal and nothing of labels: near examples of
    another label are as likely to harm as those of the same one are to help. So no example is ``harmful``, and what is
    least alike means nothing. Features of norm 0 have cosine 0 with all. Of several queries as one, the distance is
    from their mean, the cosine and the dot product are with their sum.

    Args:
        similarity: ``"cosine"``, ``"dot"``, or ``"euclidean"`` for 1 / (1 + distance), 1 where features are the same.
        layers: ``"last"`` for what the last linear layer that is used reads, or names of layers, whose outputs are put
            one after the other. Of a sequence the former is that of its last place, the latter are means over places;
            padding is left out.
        seed: Not used: nothing is drawn.

    Raises:
        ValueError: If ``similarity`` does not exist, or ``layers`` is ``"all"``; in ``fit``, if a layer does not exist
            or has no features; when queries are scored, for a ``measure``.
    """

    name: ClassVar[str] = "feature_similarity"
    of_loss: ClassVar[bool] = False
    similarity: Literal["cosine", "euclidean", "dot"] = "cosine"
    layers: str | Sequence[str] = "last"

    def __post_init__(self) -> None:
        """Refuse a similarity that does not exist, and features of all layers."""
        super().__post_init__()
        choose("similarity", self.similarity, _UNITS)
        if self.layers == "all":
            raise ValueError("`layers='all'` are no features: give 'last', or names of layers.")

    @property
    def whole_only(self) -> str | None:
        """Why its scores are no means over the tokens of an example, and what to use instead; None where they are."""
        return "features are of whole examples: use a method that reads gradients, such as 'ekfac'"

    def covered(self, module: nn.Module, examples: Examples, task: Task) -> list[Block]:
        """Return none: no parameter has a part, and none has to be trained."""
        return []

    def fitted(
        self, module: nn.Module, examples: Examples, task: Task, blocks: list[Block], weight_decay: float
    ) -> Fitted:
        """Return what scores queries: there is nothing to measure first."""
        first = next((batch for _, batch in examples.batches()), None)
        if first is None:
            raise ValueError("The training data have no examples.")
        named = [self.layers] if isinstance(self.layers, str) else self.layers
        layers = None if self.layers == "last" else named
        reader = Reader(module, task, layers, "auto", batches.to_full_precision(batches.clone(first)))
        return _Similarity(module, examples, task, reader, self)


class _Similarity(Fitted):
    ends = 1
    reads = "feature vector"

    def __init__(
        self, module: nn.Module, examples: Examples, task: Task, reader: Reader, method: FeatureSimilarity
    ) -> None:
        super().__init__(module, examples, task, [])
        self.reader, self.similarity = reader, method.similarity
        notes = (f"features: {reader.layer}",)
        self.approximation = Approximation(method.name, _UNITS[method.similarity], measure=None, notes=notes)

    def gradients(self, batch: Any, measure: Measure | None = None, *, summed: bool = False) -> list[Gradient | None]:
        """Return the features of each example, or their sum, and in one more column how many they are of.

        Raises:
            ValueError: If something is measured.
        """
        if measure is not None:
            raise ValueError(
                "`measure` has no part in 'feature_similarity', which compares features: leave it out, or ask another "
                "method."
            )
        found = self._features(batch)
        found = torch.cat([found, torch.ones_like(found[:, :1])], dim=1)
        return [found.sum(dim=0, keepdim=True) if summed else found]

    def stream(
        self, queries: list[Gradient | None], examples: Iterable[tuple[Tensor, Any]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        (counted,) = queries
        assert isinstance(counted, Tensor)
        sums, counts = counted[:, :-1], counted[:, -1:]  # a count of 0: features that were not finite, alike to nothing
        for ids, batch in examples:
            features = self._features(batches.clone(batch))
            if self.similarity == "euclidean":
                means = sums / counts.clamp(min=1)
                distances = torch.cdist(means, features, compute_mode="donot_use_mm_for_euclid_dist")
                yield ids, (1 / (1 + distances)).where((counts > 0) | distances.isnan(), 0.0)
            elif self.similarity == "cosine":
                yield ids, _unit(sums) @ _unit(features).T
            else:
                yield ids, sums @ features.T

    def own(self, batch: Any) -> Tensor:
        """Return the similarity of each example with itself."""
        features = self._features(batch)
        squares = features.square().sum(dim=1)
        if self.similarity == "dot":
            return squares
        # not finite stays not finite
        return torch.where((squares == 0) & (self.similarity == "cosine"), 0.0, 1 + 0 * squares)

    def _features(self, batch: Any) -> Tensor:
        return self.reader.read(batches.to_full_precision(batch))[1]


def _unit(features: Tensor) -> Tensor:
    norms = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(norms == 0, 0.0, features / norms)
