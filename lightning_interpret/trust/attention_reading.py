"""One batch as the debate about attention needs it: the attention of one site, and the model as a function of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.attention.distances import total_variation
from lightning_interpret.functional.attention.replay import Replay
from lightning_interpret.functional.attention.scope import AttentionError, Site, attention
from lightning_interpret.functional.features import features
from lightning_interpret.functional.scope import explaining
from lightning_interpret.tasks import Task, batches

#: Weights in one call of the model, at most.
WEIGHTS_A_CALL = 2**20
#: Tokens in one call of the model, at most.
TOKENS_A_CALL = 2**13


@dataclass
class Reading:
    """The attention of a batch from the places that its head reads, and what the model answers to another.

    The site is the last of the forward whose attention runs over the tokens and reaches the logits. Where a text is
    pooled it is one distribution. In a transformer it is one a head, from each position that the head reads: those at
    which a gradient of the logits arrives (CLS of BERT, the last token of GPT-2, every token where their mean is read).

    Attributes:
        site: Which attention it is.
        weights: ``(B, D, T)``, D distributions a text, in at least single precision.
        share: What each counts for, ``(B, D)``, sums of 1: equal parts for those that are read.
        attention: Their mean, ``(B, T)``.
        counts: Bool ``(B, T)``, tokens that are neither special nor padding.
        answer: Probabilities at x, ``(B, C)``.
        chunk: Texts in one call of the model.
        sites: How many sites of attention a forward has.
        replay: What modules returned before the site, so as not to be run again for other attention.
        skipped: How many sites are not met, as they lie in those modules; None before that was tried.
    """

    module: nn.Module
    batch: Any
    task: Task
    site: Site
    weights: Tensor
    share: Tensor
    counts: Tensor
    answer: Tensor
    inside: str | None
    positions: Tensor
    chunk: int
    sites: int
    replay: Replay
    skipped: int | None = None

    @property
    def attention(self) -> Tensor:
        """The mean of the distributions that are read, ``(B, T)``."""
        return torch.einsum("bd,bdt->bt", self.share, self.weights)

    def picked(self, weights: Tensor) -> Tensor:
        """Return of all weights of the site ``(B, H, Q, T)`` those that the head reads, ``(B, D, T)``."""
        return _picked(weights, self.positions)

    def respond(self, weights: Tensor, rows: Tensor) -> Tensor:
        """Return the probabilities ``(M, C)`` of rows ``(M,)`` whose attention is ``weights`` ``(M, D, T)``."""
        if self.skipped is None:
            self.skipped = self._try_replay()
        number = self.site.number - self.skipped

        def edit(site: Site, own: Tensor, value: Tensor) -> Tensor | None:
            if site.number != number:
                return None
            given = weights.unflatten(1, (own.shape[1], -1)).to(own.dtype)  # (M, H, R, T)
            to = self.positions[rows][:, None, :, None].expand_as(given)
            return own.detach().scatter(2, to, given)

        with self.replay.of(rows), attention(self.module, edit, inside=self.inside, keep=False):
            return answer(self.module, self.task.take(self.batch, rows), self.task)

    def _try_replay(self) -> int:
        """Return how many sites are skipped if what comes before this one is replayed; 0 and not, if that differs."""
        rows = torch.arange(-1, len(self.answer), device=self.answer.device) % len(self.answer)
        some = self.task.take(self.batch, rows)
        try:
            with torch.no_grad(), self.replay.of(rows), attention(self.module, inside=self.inside) as met:
                replayed = answer(self.module, some, self.task)
            if torch.allclose(replayed, self.answer[rows], rtol=1e-4, atol=1e-5):
                return self.sites - len(met.weights)
        except Exception:  # a model that does more than return its outputs: it says so as it likes
            pass
        self.replay.forget()
        return 0

    def gradients(self) -> Tensor:
        """Return Σ over the classes of |∂ŷ_c/∂e_t · e_t|, ``(B, T)``, with this site's attention held where it is.

        As Jain and Wallace (2019, section 4.1): the probabilities' gradient, in the word embeddings e, with the
        attention cut out of the graph.
        """
        shape, classes = self.counts.shape, self.answer.shape[1]
        layer, found = self.task.layer(self.module), torch.zeros_like(self.attention)

        def detached(site: Site, own: Tensor, value: Tensor) -> Tensor | None:
            return own.detach() if site.number == self.site.number else None

        with features(self.module, layer, self._forward(self.batch), units=tuple(shape)) as (opened, _, inputs):
            pairs = torch.arange(len(inputs) * classes, device=inputs.device)
            for part in pairs.split(self.chunk):
                rows, which = part // classes, part % classes
                point = inputs[rows].detach().requires_grad_()
                with attention(self.module, detached, inside=self.inside, keep=False):
                    logits = opened.put(point, self._forward(self.task.take(self.batch, rows)))
                answered = probabilities(self.task, logits)
                (gradient,) = torch.autograd.grad(answered.gather(1, which[:, None]).sum(), point)
                found.index_add_(0, rows, (gradient * point).sum(dim=2).detach().abs().to(found.dtype))
        return found

    def _forward(self, batch: Any) -> Callable[[], Tensor]:
        return lambda: self.task.logits(self.module, batch)

    def without_each(self) -> Tensor:
        """Return the total variation between ŷ and the answer without each token that counts, ``(B, T)``.

        The token is deleted and the text closes up (Jain and Wallace, 2019, algorithm 1). 0 where it does not count,
        and where no other does.
        """
        found = torch.zeros_like(self.attention)
        rows, places = (self.counts & (self.counts.sum(dim=1, keepdim=True) > 1)).nonzero(as_tuple=True)
        if len(rows) == 0:
            return found
        for row, place in zip(rows.split(self.chunk), places.split(self.chunk), strict=True):
            absent = torch.zeros(len(row), self.counts.shape[1], dtype=torch.bool, device=row.device)
            absent[torch.arange(len(row), device=row.device), place] = True
            with torch.no_grad():
                shorter = self.task.delete(self.module, self.task.take(self.batch, row), absent)
                lost = total_variation(answer(self.module, shorter, self.task), self.answer[row])
            found[row, place] = lost.to(found.dtype)
        return found


@contextmanager
def read_attention(module: nn.Module, batch: Any, task: Task, *, inside: str | None = None) -> Iterator[Reading]:
    """Read the attention of a batch, for the time of a block in which the module is as in :func:`explaining`.

    Args:
        module: The module.
        batch: A batch, on the module's device.
        task: How they are read.
        inside: Name of a module: only attention that is made in there is looked at.

    Raises:
        AttentionError: If no attention runs over the tokens and reaches the logits.
        ValueError: If the batch is of no texts, or the model gives no probabilities of several classes, or none that
            are numbers.
    """
    if type(task).log_probabilities is Task.log_probabilities:
        raise ValueError(
            "A report on attention holds it against the probabilities of classes, and a "
            f"{type(task).__name__} has none of several: use AttentionMonitor, or TrustMonitor of methods of attention."
        )
    with explaining(module):
        batch = task.prepared(module, batches.clone(batch))
        units = task.units(batch)
        if units.kind != "token":
            raise ValueError(
                f"Attention is read over the tokens of a text, and this batch has units of kind {units.kind!r}: "
                "use a method of gradients or occlusion."
            )
        replay, marks = Replay(module), []
        with replay.recording(), attention(module, lambda *_: marks.append(replay.now()), inside=inside) as met:
            logits = task.logits(module, batch)
        size, length = units.padding.shape
        sites = [site for site in met.weights if len(site.weights) == size and site.weights.shape[3] == length]
        site, read = _last_read(sites, logits)
        if site is None:
            seen = [(each.name, each.kind, tuple(each.weights.shape)) for each in met.weights]
            raise AttentionError(
                f"{type(module).__name__} has no attention from what its head reads over the {length} tokens of a "
                f"text; met were {seen}. Give `inside=`, the name of the module whose attention is meant, or a model "
                "in which attention reaches the logits (it does not where they are constant, or where it is run under "
                "`no_grad`)."
            )
        answered = probabilities(task, logits.detach())
        if not bool(answered.isfinite().all()):
            strange = (~answered.isfinite()).any(dim=1).nonzero().flatten().tolist()
            raise ValueError(
                f"{type(module).__name__} answers with no numbers (NaN) to texts {strange[:5]} of a batch of {size}: "
                "has training diverged? Look at the loss, or leave those texts out of `data`."
            )
        weights = site.weights.detach()
        weights = weights if weights.dtype == torch.float64 else weights.float()  # an adversary moves in small steps
        most = int(read.sum(dim=1).max())
        positions = (~read).byte().argsort(dim=1, stable=True)[:, :most]  # of each text, those that are read first
        kept = read.gather(1, positions).to(weights)
        heads = weights.shape[1]
        picked = _picked(weights, positions)
        share = (kept / kept.sum(dim=1, keepdim=True) / heads).repeat(1, heads)
        held = max(1, min(WEIGHTS_A_CALL // (picked.shape[1] * length), TOKENS_A_CALL // length))
        replay.keep(marks[site.number], size)
        yield Reading(
            module=module,
            batch=batch,
            task=task,
            site=site,
            weights=picked,
            share=share,
            counts=~(units.special | units.padding).to(weights.device),
            answer=answered,
            inside=inside,
            positions=positions,
            chunk=held,
            sites=len(met.weights),
            replay=replay,
        )


def probabilities(task: Task, logits: Tensor) -> Tensor:
    """Return the probabilities of the classes, ``(B, C)``.

    Raises:
        ValueError: If the task has none.
    """
    found = task.log_probabilities(logits)
    if found is None:
        raise ValueError(
            f"Logits {tuple(logits.shape)} are no probabilities of several classes to {type(task).__name__}: how much "
            "an answer changes cannot be said. Give a `task=` whose `log_probabilities` does, (texts, classes)."
        )
    return found.exp()


def answer(module: nn.Module, batch: Any, task: Task) -> Tensor:
    """Return the probabilities that a module gives to a batch, ``(B, C)``."""
    return probabilities(task, task.logits(module, batch))


def _picked(weights: Tensor, positions: Tensor) -> Tensor:
    index = positions[:, None, :, None].expand(-1, weights.shape[1], -1, weights.shape[3])
    return weights.gather(2, index).flatten(1, 2)


def _last_read(sites: list[Site], logits: Tensor) -> tuple[Site | None, Tensor]:
    """Return the last site that reaches the logits, and from which of its positions, bool ``(B, Q)``."""
    mixed = torch.randn(logits.shape[1:], generator=torch.Generator().manual_seed(0)).to(logits)
    sites = [site for site in sites if site.weights.requires_grad and logits.requires_grad]  # none under `no_grad`
    asked = [site.weights for site in sites]
    found = torch.autograd.grad((logits * mixed).sum(), asked, allow_unused=True) if asked else ()
    for site, gradient in zip(reversed(sites), reversed(found), strict=True):
        if gradient is not None and bool((gradient != 0).any()):
            read = (gradient != 0).any(dim=3).any(dim=1)
            everywhere = read.any(dim=0)  # a text at which the gradient vanishes is read as the others are
            return site, torch.where(read.any(dim=1, keepdim=True), read, everywhere)
    return None, torch.zeros(0, dtype=torch.bool)


def each_batch(given: Any) -> Iterator[Any]:
    """Yield the batches of a loader or of a list; a mapping, a tuple or a tensor is one batch itself."""
    one = isinstance(given, tuple | Tensor) or hasattr(given, "items") or hasattr(given, "__dataclass_fields__")
    yield from [given] if one else given
