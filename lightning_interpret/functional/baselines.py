"""What "absent" means, by name: baselines determined by the input.

A baseline input x' keeps the shape of x and, unless told otherwise, its special tokens, padding and attention mask; it
differs from x only in what stands at the content tokens; of an image, everything may be replaced. The baseline of a
deeper layer is h(x'): never a tensor of zeros that no input produces (after Cui and Fan, *The Neglected Baseline in
Model Interpretation*, arXiv 2605.22417).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.names import choose

KINDS = ("pad", "mask", "unk", "zero", "mean", "text", "black", "blur", "default")
TOKEN_KINDS = ("pad", "mask", "unk")


@dataclass(frozen=True)
class Baseline:
    """A named baseline.

    Args:
        kind: What stands at the content tokens: the ``pad``, ``mask`` or ``unk`` token, the ``zero`` embedding, the
            ``mean`` of the vocabulary's embeddings, or the tokens of a neutral ``text``. In the place of an image:
            ``zero`` (as the model reads it, so the mean colour), ``black``, or the image under a Gaussian ``blur``.
            ``default`` is what the task has: ``pad`` of a text, ``blur`` of an image.
        text: The neutral text; repeated or cut to the length of the input. Only for ``kind="text"``.
        keep_special: Whether special tokens stay as they are in the input.
        sigma: Standard deviation of ``blur``, as a share of the image's shorter side.

    Raises:
        ValueError: If ``kind`` does not exist, or ``text`` is missing or given to another kind.
    """

    kind: str = "default"
    text: str | None = None
    keep_special: bool = True
    sigma: float = 0.25

    def __post_init__(self) -> None:
        choose("baseline", self.kind, KINDS)
        if (self.kind == "text") != bool(self.text):
            raise ValueError(
                f"`baseline={self.kind!r}` with text={self.text!r}: write a neutral text as 'text: the film was a "
                "film', and no text with another kind."
            )
        if not self.sigma > 0:
            raise ValueError(f"`sigma={self.sigma!r}` of a blur must be positive, a share of the image's shorter side.")

    @classmethod
    def ensure(cls, value: str | Baseline) -> Baseline:
        """Return ``value`` as a baseline: ``"pad"``, ``"text: a neutral text"``, ``"blur: 0.2"``, or one made already.

        Raises:
            ValueError: If the name does not exist; the near ones are named.
        """
        if isinstance(value, Baseline):
            return value
        kind, _, rest = (part.strip() for part in value.partition(":"))
        if kind == "blur" and rest:
            try:
                return cls(kind=kind, sigma=float(rest))
            except ValueError as error:
                raise ValueError(f"`baseline={value!r}`: give a blur as 'blur' or 'blur: 0.2'.") from error
        return cls(kind=kind, text=rest or None)

    @property
    def name(self) -> str:
        """The name that records carry."""
        name = self.kind if self.text is None else f"text: {self.text}"
        name += f": {self.sigma:g}" if self.kind == "blur" else ""
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


def blur(images: Tensor, sigma: float) -> Tensor:
    """Return images ``(B, C, H, W)`` under a Gaussian of standard deviation ``sigma``, in pixels.

    Beyond its edges an image goes on as it is there; the Gaussian is cut off at 3 standard deviations.
    """
    radius = max(1, round(3 * sigma))
    kernel = torch.exp(-((torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2) / 2).to(images)
    kernel, channels = kernel / kernel.sum(), images.shape[1]
    for shape, padding in (((1, 1, -1, 1), (0, 0, radius, radius)), ((1, 1, 1, -1), (radius, radius, 0, 0))):
        weight = kernel.reshape(shape).expand(channels, *[-1] * 3)
        images = F.conv2d(F.pad(images, padding, mode="replicate"), weight, groups=channels)
    return images
