"""What methods of attention share: one forward in which it is met, the position that is read, and the record."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_interpret.explanations import Attribution
from lightning_interpret.functional.features import find_layer, same_layer
from lightning_interpret.methods.attention.attended import READS, Attended, attended, texts_a_pass
from lightning_interpret.methods.attention.ends import Ends, places
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.methods.gradient import RANKS
from lightning_interpret.names import choose
from lightning_interpret.tasks import Seq2SeqGeneration, Task

WHY = "attention weights are no shares of the score: what is made of them ranks, and has no target to miss"


@dataclass(frozen=True)
class AttentionMethod(Method):
    """A method whose scores are made of attention weights, from the position that is read to the tokens.

    ``layer=`` is the layer that is attributed to: what is read is attention that is made after it has run. So the
    default, the word embeddings, has all of it; of the last block, the scores are what the head reads of its output.
    """

    read: Literal["auto", "first", "last", "mean"] = "auto"
    inside: str | None = None
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("read", self.read, READS)

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:
        """Refuse a name of a module that does not exist, and what has no meaning for an encoder-decoder."""
        if self.inside is not None:
            find_layer(module, self.inside, argument="inside")
        if isinstance(task, Seq2SeqGeneration):
            words = task.layer(module)
            self.check_ends(next((layer for layer in layers if layer != words), words), words)

    def differentiates(self, placed: bool) -> bool:
        """Return whether gradients are asked for, also to find the position, of targets at places or of others."""
        return self.read == "auto" and not placed

    def check_ends(self, layer: str, words: str) -> None:
        """Refuse what has no meaning for the two ends of an encoder-decoder.

        Raises:
            ValueError: If it is to be read in one module or at a position, or a layer is not the words of both ends.
        """
        given = [f"`inside={self.inside!r}`"] * (self.inside is not None)
        given += [f"`read={self.read!r}`"] * (self.read != "auto") + [f"`layer={layer!r}`"] * (layer != words)
        if given:
            raise ValueError(
                f"{', '.join(given)}: {self.name} of an encoder-decoder (Seq2SeqGeneration) goes from the place of the "
                "decoder that predicts a token to the words of both ends, through all of the model. Leave it out."
            )

    @abstractmethod
    def scores(self, found: Attended) -> Tensor:
        """Return the scores of each text ``(N, T)``."""

    def passes(self, found: Attended) -> Tensor:
        """Return how many forward passes each text took besides the one in which attention was met, ``(N,)``."""
        return torch.zeros(len(found.there), dtype=torch.long)

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the attention of the position that is read."""
        with open_case(
            module, batch, task, layer=layer, which=which, output=output, baseline=None, chunk=self.internal_batch_size
        ) as case:
            if case.units.kind != "token" and not same_layer(module, case.layer, task.layer(module)):
                case.units = task.units(batch).take(case.targets.example.cpu())  # of whatever layer, it is over tokens
            if case.units.kind != "token":
                raise ValueError(
                    f"{self.name} scores the tokens of a text, and this batch has units of kind "
                    f"{case.units.kind!r}: use a method of gradients or occlusion."
                )
            at, tokens = places(case.targets, case.units.shape[0]), case.units.shape[0]
            with_gradient, ends = self.differentiates(at is not None), Ends.of(module, task, case.targets, tokens)
            if ends is not None:
                self.check_ends(case.layer, task.layer(module))
            chunk = self.internal_batch_size or min(case.chunk, texts_a_pass(case.units.shape[0]))
            scores, passes = [], []
            for rows in torch.arange(len(case.target), device=case.target.device).split(chunk):
                some = task.take(batch, case.targets.example[rows])

                def forward(of: Tensor, some: Any = some, rows: Tensor = rows) -> Tensor:
                    part = some if len(of) == len(rows) and bool((of.diff() == 1).all()) else task.take(some, of)
                    return task.scores(module, part, case.targets.at(rows[of]), output)

                found = attended(
                    module,
                    forward,
                    ~case.units.padding[rows.cpu()].to(rows.device),
                    inside=self.inside,
                    after=None if ends is not None else case.layer,
                    chunk=chunk,
                    gradients=with_gradient,
                    ends=ends,
                )
                found = replace(found, places=None if at is None else at[rows])
                some_after = bool(found.sites)
                scores.append((self.scores(found) if some_after else found.read(self.read)).detach())
                passes.append((self.passes(found) if some_after else 1) + torch.ones(len(rows), dtype=torch.long))
            return self._record(case, torch.cat(scores), torch.cat(passes), with_gradient)

    def _record(self, case: Case, scores: Tensor, passes: Tensor, with_gradient: bool) -> Attribution:
        ones = torch.full((len(scores),), int(with_gradient), dtype=torch.long)
        return case.record(
            self,
            case.masked(scores).to(case.target.dtype),
            gradients=ones,
            forwards=case.forwards + passes,
            reasons=dict.fromkeys((*RANKS, "steps"), WHY),
        )
