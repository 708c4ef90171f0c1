"""What "absent" means, by name: baselines determined by the input.

A baseline input x' keeps the shape of x and, unless told otherwise, its special tokens, padding and attention mask; it
differs from x only in what stands at the content tokens. The baseline of a deeper layer is h(x'): never a tensor of
zeros that no input produces (after Cui and Fan, *The Neglected Baseline in Model Interpretation*, arXiv 2605.22417).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_interpret.names import choose

KINDS = ("pad", "mask", "unk", "zero", "mean", "text")
TOKEN_KINDS = ("pad", "mask", "unk")


@dataclass(frozen=True)
class Baseline:
    """A named baseline.

    Args:
        kind: What stands at the content tokens: the ``pad``, ``mask`` or ``unk`` token, the ``zero`` embedding, the
            ``mean`` of the vocabulary's embeddings, or the tokens of a neutral ``text``.
        text: The neutral text; repeated or cut to the length of the input. Only for ``kind="text"``.
        keep_special: Whether special tokens stay as they are in the input.

    Raises:
        ValueError: If ``kind`` does not exist, or ``text`` is missing or given to another kind.
    """

    kind: str = "pad"
    text: str | None = None
    keep_special: bool = True

    def __post_init__(self) -> None:
        choose("baseline", self.kind, KINDS)
        if (self.kind == "text") != bool(self.text):
            raise ValueError(
                f"`baseline={self.kind!r}` with text={self.text!r}: write a neutral text as 'text: the film was a "
                "film', and no text with another kind."
            )

    @classmethod
    def ensure(cls, value: str | Baseline) -> Baseline:
        """Return ``value`` as a baseline: ``"pad"``, ``"text: a neutral text"``, or one that is made already.

        Raises:
            ValueError: If the name does not exist; the near ones are named.
        """
        if isinstance(value, Baseline):
            return value
        kind, _, text = value.partition(":")
        return cls(kind=kind.strip(), text=text.strip() or None)

    @property
    def name(self) -> str:
        """The name that records carry."""
        name = self.kind if self.text is None else f"text: {self.text}"
        return name if self.keep_special else f"{name} (special tokens too)"


def fill_tokens(ids: Tensor, absent: Tensor, token_id: int) -> Tensor:
    """Return ``ids`` ``(B, T)`` with one token at every ``absent`` position."""
    return torch.where(absent, token_id, ids)


def tile_tokens(ids: Tensor, absent: Tensor, tokens: Tensor) -> Tensor:
    """Return ``ids`` ``(B, T)`` with ``tokens`` ``(K,)`` at the ``absent`` positions of each row, again and again."""
    place = (absent.long().cumsum(dim=1) - 1).clamp(min=0) % len(tokens)
    return torch.where(absent, tokens.to(ids.device)[place], ids)


def fill_features(features: Tensor, absent: Tensor, vector: Tensor) -> Tensor:
    """Return ``features`` ``(B, T, D)`` with ``vector`` ``(D,)`` at every ``absent`` position ``(B, T)``."""
    return torch.where(absent.unsqueeze(-1), vector.to(features), features)
