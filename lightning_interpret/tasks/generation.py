"""What decoders and encoder-decoders share when they write: which tokens are explained, and what each is made from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.influence import outputs
from lightning_interpret.names import check_whole, choose, unknown
from lightning_interpret.tasks.base import Singles
from lightning_interpret.tasks.encode import max_tokens
from lightning_interpret.tasks.placed import PlacedTask, padded, runner_up
from lightning_interpret.tasks.transformer import WRITERS, call
from lightning_interpret.tasks.written import WrittenTargets, head_at

CONTINUATIONS = ("given", "own")
ATTRIBUTED = ("both", "input", "output")
IGNORED = -100
_GROUPS = ("predicted", "gold", "contrast")
#: Entry of a prepared batch: how many places at its end have scores, so that any rows of it have the same ones.
_KEPT = "scored_places"
_SHOWN = 60  # characters of a continuation in a target's name


class Generation(PlacedTask):
    """Reads a module that writes: each token of a text is scored after what stands before it.

    A target is a token of the output, and all tokens of a batch are explained in one call. Each is made from the input
    and from the output before it, which are told apart by their ``segment``. ``which`` is:

    * ``predicted``: at each place of the output the token that the model finds likeliest there;
    * ``gold``: the token that stands there;
    * ``contrast``: the token that stands there less the one of the batch's ``contrast_labels``, of the same shape as
      ``labels`` and −100 where there is no other;
    * a token of the vocabulary, or a contrast ``A-B`` of two;
    * any of them with ``sequence``, as in ``gold sequence``: all tokens of the output together, one target an example;
    * any of them with a span, as in ``gold 2:5``: the output's tokens 2 to 4 together.

    Of several tokens the score is the sum: ``log_prob`` the log probability of the continuation, ``prob`` that
    probability, ``margin`` less the runner-up's at each place.

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        model: Name of the `transformers` model in the module, where it holds several.
        continuation: ``given`` for the output in the batch's ``labels`` (teacher forcing), ``own`` for what the model
            writes itself, greedily.
        max_new_tokens: Tokens that it writes at most; fewer where the model has no more places.
        attribute: What x' replaces: the ``input``, the ``output`` before each token, or ``both``.

    Raises:
        ValueError: By :meth:`check` or on first use: no tokenizer, no model that writes, nothing to explain.
    """

    head: ClassVar[Any] = WRITERS
    view: ClassVar[str | None] = "grid"

    def __init__(
        self,
        tokenizer: Any = None,
        model: str | None = None,
        continuation: str = "given",
        max_new_tokens: int = 32,
        attribute: str = "both",
    ) -> None:
        super().__init__(tokenizer, None, model)
        self.continuation = choose("continuation", continuation, CONTINUATIONS)
        self.attribute = choose("attribute", attribute, ATTRIBUTED)
        check_whole(max_new_tokens=max_new_tokens)
        self.max_new_tokens = max_new_tokens

    # What an end of the model does

    @abstractmethod
    def given(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch with its output as it stands: as the model is called, and ``labels``."""

    @abstractmethod
    def written(self, model: Any, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch with what the model writes as its output."""

    @abstractmethod
    def answers(self, parts: dict[str, Any]) -> Tensor:
        """Return the token that each place of the scores is of, long ``(B, L)``; −100 where there is none."""

    # What the model is

    def prepared(self, module: nn.Module, batch: Any) -> Any:
        """Return the batch with its output: the one that is given, or what the model writes."""
        if _KEPT in self.parts(batch):  # a batch is prepared once: what was written stays
            return batch
        own = self.continuation == "own"
        parts = self.written(self.model_in(module), batch) if own else self.given(batch)
        answers = self.answers(parts)
        if not bool((answers != IGNORED).any()):
            raise ValueError(
                "There is no token of an output in this batch: give it `labels`, or let the model write, "
                "`continuation='own'`."
            )
        return parts | {_KEPT: self._scored(answers)}

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores of the vocabulary ``(B, K, V)`` at the last K places, of which each is the next token's."""
        parts = self._given(batch)
        found = self._called(module, parts)
        return found[:, found.shape[1] - self._kept(parts) :]

    def scores(self, module: nn.Module, batch: Any, targets: WrittenTargets, output: str) -> Tensor:  # type: ignore[override]
        """Return the scalars explained, ``(N,)``: the vocabulary is scored at the targets' own places alone."""
        if type(self).logits is not Generation.logits:  # of a task of one's own, which calls the model as it likes
            return super().scores(module, batch, targets, output)
        parts = self._given(batch)
        with head_at(self.model_in(module), targets.example, targets.place.clamp(min=0)) as used:
            found = self._called(module, parts)
        if not used:
            found = found[targets.example[:, None], targets.place.clamp(min=0)]
        return targets.summed(found, output)

    def token_losses(self, module: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the negative log probability of each token of the output, ``(B, K)``, and where there is one, bool.

        Of the tokens that are given: of the batch's ``labels``.
        """
        parts = self._given(batch)
        logits, gold = self.logits(module, parts), self._outputs(parts)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        lost = F.cross_entropy(logits.transpose(1, 2), gold.to(logits.device), reduction="none", ignore_index=IGNORED)
        return lost, gold.to(logits.device) != IGNORED

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the mean negative log probability of each example's output, ``(B,)``; 0 without a token."""
        lost, there = self.token_losses(module, batch)
        return lost.sum(dim=1) / there.sum(dim=1).clamp(min=1)

    def roots(
        self, logits: Tensor, batch: Any, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Yield roots of the Hessian of the mean negative log probability over the tokens of the output."""
        there = self._outputs(self._given(batch)) != IGNORED
        yield from outputs.placed_roots(logits, there.to(logits.device), samples, generator)

    def singles(self, module: nn.Module, batch: Any) -> Singles:
        """Return one example for each token of the output, which alone has its label; all is read as before."""
        parts = {name: part for name, part in self.reads(module, batch).items() if name != _KEPT}
        gold = self.scored_labels(parts)
        parts["labels"] = gold

        def spelled(row: int, place: int) -> str:
            return self._decoded(gold[row : row + 1, place : place + 1], gold[row : row + 1, place : place + 1] >= 0)[0]

        return self.single(parts, gold, spelled)

    def reads(self, module: nn.Module, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch, what the model reads among them, whatever becomes of the labels."""
        return self._given(batch)

    def scored_labels(self, parts: dict[str, Any]) -> Tensor:
        """Return the labels of a batch, −100 at those that no place scores."""
        return parts["labels"]

    # What is explained

    def resolve(self, logits: Tensor, batch: Any, which: str) -> WrittenTargets:
        """Return one target a token of the output, or several together."""
        parts = self._given(batch)
        group, span = self._parsed(which)
        gold = self._outputs(parts).to(logits.device)
        chosen, others = self._chosen(group, logits, gold, parts)
        there = gold != IGNORED
        if group == "contrast" and others is not None:
            there = there & (others >= 0)
        before = there.long().cumsum(dim=1) - 1
        if isinstance(span, tuple):
            there = there & (before >= span[0]) & (before < span[1])
        if not bool(there.any()):
            raise ValueError(f"`which={which!r}`: no example of this batch has such tokens: give another span.")
        rows = [row.nonzero().flatten().tolist() for row in there]
        if span is None:
            targets = [(i, [place]) for i, row in enumerate(rows) for place in row]
        else:
            targets = [(i, row) for i, row in enumerate(rows) if row]
        example = torch.tensor([i for i, _ in targets], dtype=torch.long, device=logits.device)
        at = padded([row for _, row in targets], -1, logits.device)
        found = at.clamp(min=0)
        classes = chosen[example[:, None], found]
        second = (
            runner_up(logits[example[:, None], found], classes) if others is None else others[example[:, None], found]
        )
        first = self._length(parts) - logits.shape[1]
        before_units = self._units_before(parts)
        spelled = [self._decoded(each, at >= 0) for each in (classes, second)]
        return WrittenTargets(
            example=example,
            index=classes[:, 0],
            against=second[:, 0],
            contrast=others is not None,
            name=tuple(a if others is None else f"{a}-{b}" for a, b in zip(*spelled, strict=True)),
            place=torch.where(at < 0, -1, at + first),
            classes=classes,
            others=second,
            at_units=tuple(
                (before_units + first + row[0] + 1, before_units + first + row[-1] + 2) for _, row in targets
            ),
            first=first,
            units_before=before_units,
        )

    def score(self, logits: Tensor, targets: WrittenTargets, output: str) -> Tensor:  # type: ignore[override]
        """Return the scalars explained, ``(N,)``, in at least single precision."""
        at = (targets.place - targets.first).clamp(min=0)
        return targets.summed(logits[targets.example[:, None], at], output)

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return what is likeliest at each place, as a text; :meth:`said` leaves out what is no output."""
        return tuple(self._short(text) for text in self.tokenizer.batch_decode(logits.argmax(dim=2).tolist()))

    def said(self, logits: Tensor, batch: Any) -> tuple[str, ...]:
        """Return what the model finds likeliest at each place of the output, as a text."""
        gold = self._outputs(self._given(batch)).to(logits.device)
        return self._decoded(logits.argmax(dim=2), gold != IGNORED, marks=False)

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return the output that is given, as a text; None for an example without one."""
        parts = self._given(batch)
        gold = self._outputs(parts)
        there = gold != IGNORED
        return tuple(
            text if any_there else None
            for text, any_there in zip(self._decoded(gold, there, marks=False), there.any(dim=1).tolist(), strict=True)
        )

    def labels(self, batch: Any) -> Tensor | None:
        """Return the tokens of the output, long ``(B, K)``, −100 where there is none."""
        return self._outputs(self._given(batch))

    def compared(
        self,
        logits: Tensor,
        batch: Any,
        targets: WrittenTargets,  # type: ignore[override]
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return the likeliest token and the one that stands there, at each target; of several, their text."""
        gold = self._outputs(self._given(batch)).to(logits.device)
        at, there = (targets.place - targets.first).clamp(min=0), targets.place >= 0
        rows = targets.example[:, None]
        best = logits.argmax(dim=2)[rows, at]
        return self._decoded(best, there), self._decoded(gold[rows, at], there)

    def check_which(self, which: str) -> None:
        """Raise for what is no target."""
        self._parsed(which)

    # How

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _write(self, model: Any, ids: Tensor, mask: Tensor, *, before: int, **given: Any) -> Tensor:
        """Return what the model writes, greedily, with what stands before it: as its own configuration has it.

        It writes no more than it has places for behind those that are taken ``before``.
        """
        if not model.can_generate():
            raise ValueError(f"`continuation='own'`, but {type(model).__name__} does not write: use 'given'.")
        places = max_tokens(self.tokenizer, model)
        most = self.max_new_tokens if places is None else min(self.max_new_tokens, places - before)
        if most < 1:
            raise ValueError(
                f"`continuation='own'`, but a prompt has {before} tokens and {type(model).__name__} places for "
                f"{places}: cut the prompts."
            )
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        options: dict[str, Any] = {"do_sample": False, "num_beams": 1, "num_return_sequences": 1}
        options |= {"return_dict_in_generate": False, "penalty_alpha": None, "prompt_lookup_num_tokens": None}
        options |= {"max_new_tokens": most, "pad_token_id": pad}
        return model.generate(input_ids=ids, attention_mask=mask, **options, **given)

    @abstractmethod
    def _called(self, module: nn.Module, parts: dict[str, Any]) -> Tensor:
        """Return the model's scores at all places, ``(B, L, V)``."""

    @abstractmethod
    def _length(self, parts: dict[str, Any]) -> int:
        """Return how many places there are."""

    @abstractmethod
    def _units_before(self, parts: dict[str, Any]) -> int:
        """Return how many units stand before the first place."""

    def _output(self, model: Any, parts: dict[str, Any]) -> Tensor:
        found = getattr(call(model, parts), "logits", None)
        if found is None or found.dim() != 3:
            raise ValueError(
                f"{type(model).__name__} returns no scores of a vocabulary (batch, tokens, words): use a model that "
                "writes, such as one of AutoModelForCausalLM or AutoModelForSeq2SeqLM."
            )
        return found

    def _given(self, batch: Any) -> dict[str, Any]:
        """Return the parts of a batch as it was prepared, or is."""
        parts = self.parts(batch)
        return parts if _KEPT in parts else self.given(batch)

    def _scored(self, answers: Tensor) -> int:
        """Return how many places at the end have an output in some row."""
        there = (answers != IGNORED).any(dim=0).nonzero().flatten()
        return answers.shape[1] - int(there[0]) if len(there) else 1

    def _kept(self, parts: dict[str, Any]) -> int:
        return parts[_KEPT] if _KEPT in parts else self._scored(self.answers(parts))

    def _outputs(self, parts: dict[str, Any]) -> Tensor:
        """Return the token that each of the scored places is of, long ``(B, K)``."""
        answers = self.answers(parts)
        return answers[:, answers.shape[1] - self._kept(parts) :]

    def _chosen(self, group: str, logits: Tensor, gold: Tensor, parts: dict[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Return the tokens explained and those subtracted, ``(B, K)``; None for the runner-up."""
        if group == "predicted":
            return logits.argmax(dim=2), None
        if group == "gold":
            return gold.clamp(min=0), None
        if group == "contrast":
            other = parts.get("contrast_labels")
            labels = parts.get("labels")
            if not isinstance(other, Tensor) or not isinstance(labels, Tensor) or other.shape != labels.shape:
                raise ValueError(
                    "`which='contrast'`, but the batch has no `contrast_labels` of the shape of its `labels`: give the "
                    "tokens that those of the output are contrasted with, −100 where there is none."
                )
            others = self._outputs({**parts, "labels": other, _KEPT: gold.shape[1]})
            return gold.clamp(min=0), others.to(logits.device)
        first, second = self._tokens(group)
        like = torch.full_like(gold, first)
        return like, None if second is None else torch.full_like(gold, second)

    def _parsed(self, which: str) -> tuple[str, tuple[int, int] | bool | None]:
        """Return which tokens are meant, and which of them together: a span, all (True), or each by itself (None)."""
        group, _, level = which.rpartition(" ")
        if group and level == "sequence":
            span: tuple[int, int] | bool | None = True
        elif group and level.count(":") == 1 and level.replace(":", "").isdecimal() and not level.startswith(":"):
            begin, _, end = level.partition(":")
            span = int(begin), int(end or 10**9)
            if span[0] >= span[1]:
                raise ValueError(f"`which={which!r}`: the span {level!r} has no token: give it as first:end.")
        else:
            group, span = which, None
        if group not in _GROUPS:
            self._tokens(group)
        return group, span

    def _tokens(self, which: str) -> tuple[int, int | None]:
        """Return the ids of a token, or of the two of a contrast, that are named as they are written or spelled."""
        known = self.tokenizer.get_vocab()

        def found(name: str) -> int | None:
            marks = (name, f"Ġ{name}", f"▁{name}")
            return next((known[mark] for mark in marks if mark in known), None)

        whole = found(which)
        if whole is not None:
            return whole, None
        for cut in (i for i, character in enumerate(which) if character == "-"):
            first, second = found(which[:cut].strip()), found(which[cut + 1 :].strip())
            if first is not None and second is not None and first != second:
                return first, second
        raise ValueError(unknown("which", which, [*_GROUPS, *known]))

    def _decoded(self, ids: Tensor, there: Tensor, *, marks: bool = True) -> tuple[str, ...]:
        """Return rows of tokens as texts; without ``marks``, those of which there is more than what frames a text."""
        rows = [row[kept].tolist() for row, kept in zip(ids, there.to(ids.device), strict=True)]
        texts = [self._whole(row, text) for row, text in zip(rows, self.tokenizer.batch_decode(rows), strict=True)]
        plain = texts if marks else self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return tuple(self._short(b if b.strip() else a) for a, b in zip(texts, plain, strict=True))

    def _whole(self, row: list[int], text: str) -> str:
        """Return a token's text, or its name where it is a part of a character: two of them are not the same."""
        return self.tokenizer.convert_ids_to_tokens(row)[0] if len(row) == 1 and "\ufffd" in text else text

    def _short(self, text: str) -> str:
        text = text.strip() or text
        return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"

    def _held(self, content: Tensor, output: Tensor) -> Tensor:
        """Return the content that x' replaces, of tokens of which ``output`` are of the output."""
        if self.attribute == "both":
            return content
        return content & (output if self.attribute == "output" else ~output)
