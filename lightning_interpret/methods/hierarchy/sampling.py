"""Sampling and occlusion: what is lost without a span, averaged over what might have stood around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.methods.hierarchy.agglomerative import Agglomerative
from lightning_interpret.methods.hierarchy.language_model import MaskedLanguageModel
from lightning_interpret.methods.hierarchy.reading import Reading
from lightning_interpret.names import check_seed, check_whole
from lightning_interpret.tasks import Seq2SeqGeneration, Task

_MOST = 2**63 - 1


@dataclass(frozen=True)
class SamplingAndOcclusion(Agglomerative):
    """SOC: the mean of F(x̂) − F(x̂ without the span) over contexts x̂ drawn around it (Jin et al., 2020).

    Words near the span are replaced by draws from a masked language model, so that what the span does does not hang on
    the words that happen to stand there. Without a sampler it is occlusion of the span. Trees are put together from
    below by these scores.

    Args:
        baseline: What stands at absent tokens: the name of a baseline x', by default the task's (``pad`` of a text), or
            a :class:`Baseline`; the attention mask stays as it is, so that the model sees a gap. Or ``delete``, where
            ids and attention mask are closed up.
        unit: ``word`` or ``token``, the smallest spans.
        internal_batch_size: Texts in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).
        percentile: Pairs of neighbours above it are joined in one step, at least one; 100 for one at a time.
        sampler: The language model, or ``None`` for plain occlusion.
        n_samples: Contexts of each span, K of the paper; by default 20 where there is a sampler. 0 is plain occlusion.
        radius: Units on either side that are replaced, N of the paper; by default 10.
        seed: Seed of the draws, from 0, the default. A span's draws are the same in any batch.

    Raises:
        ValueError: If an option is out of its range, or one of contexts is given without a sampler.
    """

    name: ClassVar[str] = "soc"
    baseline: str | Baseline = "default"
    unit: Literal["word", "token"] = "word"
    internal_batch_size: int | None = None
    percentile: float = 95.0
    sampler: MaskedLanguageModel | None = None
    n_samples: int | None = None
    radius: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_samples is not None:
            check_whole(0, n_samples=self.n_samples)
        if self.radius is not None:
            check_whole(radius=self.radius)
        if self.seed is not None:
            check_seed(self.seed)
        of_contexts = {"n_samples": self.n_samples or None, "radius": self.radius, "seed": self.seed}
        for name, given in of_contexts.items():
            if given is not None and self.sampler is None:
                raise ValueError(
                    f"`{name}={given}` is of contexts, which are drawn from a language model: give "
                    "`sampler=MaskedLanguageModel(...)`, or leave it out for plain occlusion."
                )

    def check(self, module: nn.Module, task: Task, which: str, output: str) -> None:
        """Raise also for contexts of a model that reads two texts: what is drawn is embedded as words of one."""
        super().check(module, task, which, output)
        if self._samples and isinstance(task, Seq2SeqGeneration):
            raise ValueError(
                "`sampler`: contexts are drawn for one text, and an encoder-decoder (Seq2SeqGeneration) embeds two: "
                "leave it out for plain occlusion, or use 'hedge'."
            )

    def scores(self, opened: Reading, rows: Tensor, starts: Tensor, ends: Tensor) -> Tensor:
        """Return what is lost without each span, the mean over its contexts."""
        span = opened.spans(starts, ends)
        radius = 10 if self.radius is None else self.radius
        around = opened.spans(starts - radius, ends + radius) & ~span
        around &= torch.arange(around.shape[1]) < opened.lengths[rows, None]
        drawn = around.any(dim=1) if self._samples else torch.zeros(len(rows), dtype=torch.bool)
        found, plain = torch.zeros(len(rows), dtype=torch.float64), (~drawn).nonzero().flatten()
        if len(plain):
            found[plain] = opened.target[rows[plain]] - opened.without(rows[plain], span[plain])
        size = max(1, opened.case.chunk // max(1, self._samples))
        for some in filter(len, drawn.nonzero().flatten().split(size)):
            found[some] = self._sampled(opened, rows[some], starts[some], ends[some], span[some], around[some])
        return found

    def _sampled(
        self, opened: Reading, rows: Tensor, starts: Tensor, ends: Tensor, span: Tensor, around: Tensor
    ) -> Tensor:
        assert self.sampler is not None
        many = self._samples
        noise = torch.cat(
            [self._noise(opened, *each) for each in zip(rows, starts.tolist(), ends.tolist(), strict=True)]
        )
        rows, span, around = (each.repeat_interleave(many, dim=0) for each in (rows, span, around))
        ids, mask = opened.ids(rows), (~opened.case.units.padding[rows]).long()
        blanks = opened.tokens(rows, around)
        tokenizer = opened.task.tokenizer  # type: ignore[attr-defined]
        texts = self.sampler.fill(tokenizer, ids, mask, blanks, noise)
        whole = opened.scores(rows, torch.zeros_like(blanks), texts)
        less = opened.scores(rows, opened.tokens(rows, span), texts)
        return (whole - less).view(-1, many).mean(dim=1)

    def _noise(self, opened: Reading, row: Tensor, start: int, end: int) -> Tensor:
        """Return the draws of one span ``(n_samples, T, 2)``: of its own tokens, wherever padding puts them."""
        seed = (((self.seed or 0) * 1_000_003 + start) * 1_000_003 + end) & _MOST
        generator, content = torch.Generator().manual_seed(seed), opened.owner[row] >= 0
        noise = torch.zeros(self._samples, len(content), 2)
        noise[:, content] = torch.rand(self._samples, int(content.sum()), 2, generator=generator)
        return noise

    @property
    def _samples(self) -> int:
        return (0 if self.sampler is None else 20) if self.n_samples is None else self.n_samples

    @property
    def measure(self) -> str:
        """What a score is, in words."""
        if not self._samples:
            return "by how much the score falls without the span"
        return f"by how much the score falls without the span, the mean over {self._samples} contexts of it"
