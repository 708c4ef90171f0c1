"""What "absent" means, by name: baselines determined by the input, or by the input and some reference examples.

A baseline input x' keeps the shape of x and, unless told otherwise, its special tokens, padding and attention mask; it
differs from x only in what stands at the content tokens; of an image, everything may be replaced. The baseline of a
deeper layer is h(x'): never a tensor of zeros that no input produces (after Cui and Fan, *The Neglected Baseline in
Model Interpretation*, arXiv 2605.22417).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_interpret.names import choose

TOKEN_KINDS = ("pad", "mask", "unk")
#: Kinds that are drawn from reference examples, and kinds that no task makes by itself.
DRAWN = ("training_mean", "nearest", "distribution")
FOUND = (*DRAWN, "uniform")
KINDS = (*TOKEN_KINDS, "zero", "mean", "text", "black", "blur", "default", *FOUND)

#: Probability of one class from which a baseline counts as classified itself.
CONFIDENT = 0.9


@dataclass(frozen=True)
class Baseline:
    """A named baseline.

    Args:
        kind: What stands at the content tokens: the ``pad``, ``mask`` or ``unk`` token, the ``zero`` embedding, the
            ``mean`` of the vocabulary's embeddings, or the tokens of a neutral ``text``. In the place of an image:
            ``zero`` (as the model reads it, so the mean colour), ``black``, or the image under a Gaussian ``blur``.
            ``default`` is what the task has: ``pad`` of a text, ``blur`` of an image.
            Found with the model's help: ``uniform``, features at which its prediction has nearly the largest entropy.
            Drawn from reference examples: the ``training_mean`` of their content, the ``nearest`` of them that is of
            another class than the predicted one (by the cosine of mean content features), or all of them, as a
            ``distribution``.
        text: The neutral text; repeated or cut to the length of the input. Its ``kind`` is ``text``, said or not.
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
        if self.text and self.kind == "default":  # as a config file reads 'text: the film': a mapping with this key
            object.__setattr__(self, "kind", "text")
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
    def drawn(self) -> bool:
        """Whether it is drawn from reference examples."""
        return self.kind in DRAWN

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
    """Return ``features`` ``(B, T, D)`` with ``vector`` ``(D,)`` at every ``absent`` position ``(B, T)``.

    So also ``(B, *shape)`` with a vector of that ``shape`` at absent examples ``(B,)``.
    """
    mask = absent.reshape(*absent.shape, *[1] * (features.dim() - absent.dim()))
    return torch.where(mask, vector.to(features), features)


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


def positions(features: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:
    """Return features ``(B, T, *shape)`` and content ``(B, T)``: an example without positions, ``(B,)``, is one."""
    return (features, content) if content.dim() == 2 else (features.unsqueeze(1), content.unsqueeze(1))


def check_shapes(features: Tensor, content: Tensor, others: Tensor, other_content: Tensor) -> None:
    """Raise a ``ValueError`` if examples and references differ in the shape of what stands at a position."""
    mine, theirs = positions(features, content)[0].shape[2:], positions(others, other_content)[0].shape[2:]
    if mine != theirs:
        raise ValueError(
            f"The references have features of shape {tuple(theirs)}, the example of {tuple(mine)}: give references of "
            "the example's size."
        )


def content_mean(features: Tensor, content: Tensor) -> Tensor:
    """Return the mean over the content of all examples: ``(D,)`` of tokens, the mean image of images.

    Args:
        features: ``(B, T, D)``, or ``(B, *shape)`` of examples that have no positions.
        content: Bool ``(B, T)``, or ``(B,)``.
    """
    return features[content].mean(dim=0)


def pooled(features: Tensor, content: Tensor) -> Tensor:
    """Return the mean over the content of each example, ``(B, D)``; 0 where there is none."""
    features, content = positions(features, content)
    weights = content.to(features)
    total = torch.einsum("bt,btd->bd", weights, features.flatten(2))
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)


def nearest(inputs: Tensor, references: Tensor, allowed: Tensor) -> Tensor:
    """Return for each of ``inputs`` ``(B, D)`` the index of the ``references`` ``(R, D)`` with the largest cosine.

    Args:
        inputs: One vector an example.
        references: One vector a reference.
        allowed: Bool ``(B, R)``, which references an example may have.
    """
    cosine = F.cosine_similarity(inputs[:, None], references[None], dim=-1)
    return cosine.masked_fill(~allowed, -math.inf).argmax(dim=1)


def lay(features: Tensor, content: Tensor, others: Tensor, other_content: Tensor) -> Tensor:
    """Return ``features`` with the content of other examples at theirs, again and again, or cut.

    Args:
        features: ``(B, T, *shape)``, or ``(B, *shape)`` of examples without positions: the other as it is.
        content: Bool ``(B, T)``, or ``(B,)``.
        others: Features of B other examples, whose T may be another.
        other_content: Their content; at least one position of each.
    """
    whole, (features, content) = features, positions(features, content)
    others, other_content = positions(others, other_content)
    first = (~other_content).long().argsort(dim=1, stable=True)  # the content's places, before all others
    length = other_content.sum(dim=1, keepdim=True).clamp(min=1)
    source = first.gather(1, (content.long().cumsum(dim=1) - 1).clamp(min=0) % length)
    laid = others.to(features)[torch.arange(len(others), device=others.device)[:, None], source]
    mask = content.reshape(*content.shape, *[1] * (features.dim() - 2))
    return torch.where(mask, laid, features).reshape(whole.shape)


def entropy(log_probabilities: Tensor) -> Tensor:
    """Return the entropy of ``(B, C)``, C > 1, as a share of log C: 1 where all classes are as likely, ``(B,)``."""
    floor = torch.finfo(log_probabilities.dtype).min  # 0 · log 0 is 0
    terms = log_probabilities.exp() * log_probabilities.clamp(min=floor)
    return -terms.sum(dim=1) / math.log(log_probabilities.shape[1])
