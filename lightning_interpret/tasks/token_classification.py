"""A tag a word: any `transformers` token classifier, explained by the entity or by the word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.entities import entities
from lightning_interpret.functional.influence import outputs
from lightning_interpret.names import unknown
from lightning_interpret.tasks import batches, tags
from lightning_interpret.tasks.base import Singles
from lightning_interpret.tasks.placed import NEVER, PlacedTargets, PlacedTask, in_single_precision, padded, runner_up
from lightning_interpret.tasks.tags import OUTSIDE
from lightning_interpret.tasks.transformer import TAGS, call, special_mask

NOTHING = "no entity"
#: Entry of a prepared batch without labels: the places of its words.
_WORDS = "word_starts"


class TokenClassification(PlacedTask):
    """Reads a module that gives each token one score a tag.

    A word is tagged at its first token: where the batch's ``labels`` ``(B, T)`` are not −100, or, without labels, where
    a word begins. A target is an entity, its words together; all those of a batch are explained in one call. ``which``
    is:

    * ``predicted``: each entity that the model predicts; in a text without one, the word that it finds most like one;
    * ``gold``: each entity of the labels, with its gold tags, likewise;
    * ``words``: each word, with the tag that is predicted for it;
    * a type (``person``) or a tag (``B-person``): the entities that are predicted, scored as that;
    * a contrast ``A-B`` of two types: the same entities, scored as A less as B.

    Of an entity the score is the sum over its words: ``log_prob`` is the log probability that all of them have these
    tags, ``prob`` that probability, and ``margin`` is less the runner-up's of each word. Labels without marks of place
    (parts of speech) have an entity a word.

    Args:
        tokenizer: The tokenizer, or the name or directory to load it from.
        labels: Names of the tags in order (``O``, ``B-person``, ...); by default their numbers.
        model: Name of the `transformers` model in the module, where it holds several.

    Raises:
        ValueError: By :meth:`check` or on first use: no tokenizer, an unknown type, a baseline that cannot be made.
    """

    head: ClassVar[str] = TAGS
    view: ClassVar[str | None] = "entities"
    each: ClassVar[str] = "words"

    # What the model is

    def prepared(self, module: nn.Module, batch: Any) -> Any:
        """Return the batch with the places of its words, which are found once."""
        if self._gold(batch) is not None or batches.get(batch, _WORDS) is not None:
            return batch
        ids, found = self.example_ids(batch), self.parts(batch) | {_WORDS: self.places(batch)}
        return found if ids is None else found | {"example_id": torch.tensor(ids)}

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the scores of the tags ``(B, T, C)``; where no word begins, ``O`` is certain."""
        model, parts = self.model_in(module), self.parts(batch)
        found = getattr(call(model, parts), "logits", None)
        if found is None or found.dim() != 3:
            raise ValueError(
                f"{type(model).__name__} returns no scores of tags (batch, tokens, tags): give a `task=` whose "
                f"`logits` does, for example a subclass of {self._name} that calls your module with its head."
            )
        return self._at_words(found, self.places(batch))

    def losses(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the mean cross-entropy over the words of each example, ``(B,)``; 0 without a labelled word.

        Raises:
            ValueError: If the batch has no labels of tokens.
        """
        gold = self._gold(batch)
        if gold is None:
            raise ValueError("The batch has no `labels` (batch, tokens), so it has no loss.")
        logits = self.logits(module, batch)
        lost = F.cross_entropy(logits.transpose(1, 2), gold.to(logits.device), reduction="none", ignore_index=-100)
        return lost.sum(dim=1) / (gold != -100).sum(dim=1).clamp(min=1).to(lost)

    def roots(
        self, logits: Tensor, batch: Any, samples: int | None = None, generator: torch.Generator | None = None
    ) -> Iterator[Tensor]:
        """Yield roots of the Hessian of the mean cross-entropy over the labelled words."""
        gold = self._gold(batch)
        if gold is None:
            raise ValueError("The batch has no `labels` (batch, tokens), so it has no loss.")
        yield from outputs.placed_roots(logits, (gold != -100).to(logits.device), samples, generator)

    def singles(self, module: nn.Module, batch: Any) -> Singles | None:
        """Return one example for each labelled word, which alone has its label; None without labels."""
        gold = self._gold(batch)
        if gold is None:
            return None
        units, ends = self.units(batch), self._ends(batch)

        def word(row: int, place: int) -> str:
            pieces = units.texts[row][place : ends[row].get(place, place + 1)] if units.texts else ()
            known = units.word_ids[row][place] if units.word_ids else None
            words = units.words[row] if units.words else None
            return words[known] if words is not None and known is not None else "".join(pieces)

        return self.single(batch, gold, word)

    def places(self, batch: Any) -> Tensor:
        """Return the tokens at which a word is tagged, bool ``(B, T)``."""
        gold = self._gold(batch)
        if gold is not None:
            return gold != -100
        parts = self.parts(batch)
        if _WORDS in parts:
            return parts[_WORDS]
        ids, there = self.input_ids(parts), self.attention_mask(parts) != 0
        own = there & ~special_mask(ids, self.tokenizer)
        words = torch.tensor([[-1 if word is None else word for word in row] for row in self.units(batch).word_ids])
        first = words != F.pad(words, (1, 0), value=-1)[:, :-1]
        return own & first.to(own.device)

    # What is explained

    def resolve(self, logits: Tensor, batch: Any, which: str) -> PlacedTargets:
        """Return one target an entity, or a word; never none of an example that has a word."""
        labels = self.label_names(logits.shape[2])
        predicted, gold = self._tags(logits, batch), self._gold_tags(batch)
        if which == "gold" and gold is None:
            raise ValueError("`which='gold'`, but the batch has no `labels` of its tokens: explain 'predicted'.")
        first, second = self._types(which, labels)
        rows = []
        for i, row in enumerate(gold if which == "gold" and gold is not None else predicted):
            found = self._found(row, labels, which) or self._likeliest(logits[i], row, labels, keep=which == "gold")
            rows += [(i, *each) for each in found]
        if not rows:
            raise ValueError("No text of this batch has a word that is tagged: there is nothing to explain.")
        places = padded([[place for place, _ in words] for _, _, words in rows], -1, logits.device)
        example = torch.tensor([i for i, _, _ in rows], dtype=torch.long, device=logits.device)

        def classes(of: str | None) -> Tensor:
            named = [[tag if of is None else self._as(tag, of, labels) for _, tag in words] for _, _, words in rows]
            return padded([[labels.index(tag) for tag in words] for words in named], 0, logits.device)

        chosen = classes(first)
        others = classes(second) if second else runner_up(logits[example[:, None], places.clamp(min=0)], chosen)
        ends = self._ends(batch)
        return PlacedTargets(
            example=example,
            index=chosen[:, 0],
            against=others[:, 0],
            contrast=second is not None,
            name=tuple(which if first else kind for _, kind, _ in rows),
            place=places,
            classes=chosen,
            others=others,
            at_units=tuple((words[0][0], ends[i][words[-1][0]]) for i, _, words in rows),
        )

    def score(self, logits: Tensor, targets: PlacedTargets, output: str) -> Tensor:  # type: ignore[override]
        """Return the scalars explained, ``(N,)``, in at least single precision: of each entity over its words."""
        return targets.summed(logits[targets.example[:, None], targets.place.clamp(min=0)], output)

    def names(self, logits: Tensor) -> tuple[str, ...]:
        """Return which entities are predicted for each example: how many of each type."""
        labels = self.label_names(logits.shape[2])
        known = [[labels[k] for k in row] for row in logits.argmax(dim=2).tolist()]
        return tuple(_counted(row) for row in known)

    def gold_names(self, batch: Any) -> tuple[str | None, ...] | None:
        """Return which entities the labels of each example have, or None where the batch has no labels."""
        rows = self._gold_tags(batch)
        return None if rows is None else tuple(_counted([tag for _, tag in row]) if row else None for row in rows)

    def said(self, logits: Tensor, batch: Any) -> tuple[str, ...]:
        """Return which entities are predicted for each example: how many of each type."""
        return tuple(_counted([tag for _, tag in row]) for row in self._tags(logits, batch))

    def compared(
        self,
        logits: Tensor,
        batch: Any,
        targets: PlacedTargets,  # type: ignore[override]
    ) -> tuple[tuple[str, ...], tuple[str | None, ...] | None]:
        """Return what is predicted and what is gold at the words of each target: the type, or the tags."""
        predicted, gold = self._tags(logits, batch), self._gold_tags(batch)
        at = [
            (i, [place for place in row if place >= 0])
            for i, row in zip(targets.example.tolist(), targets.place.tolist(), strict=True)
        ]
        said = tuple(_at(predicted[i], places) for i, places in at)
        return said, None if gold is None else tuple(_at(gold[i], places) for i, places in at)

    def check_which(self, which: str) -> None:
        """Raise for a type that does not exist."""
        if self._labels is not None:
            self._types(which, self._labels)

    # How

    def _at_words(self, logits: Tensor, places: Tensor) -> Tensor:
        labels = self.label_names(logits.shape[2])
        if OUTSIDE not in labels:
            return logits
        logits = in_single_precision(logits)
        nothing = torch.full_like(logits[0, 0], NEVER)
        nothing[labels.index(OUTSIDE)] = 0
        return torch.where(places[..., None].to(logits.device), logits, nothing)

    def _gold(self, batch: Any) -> Tensor | None:
        parts = batches.as_mapping(batch)
        found = next((parts[name] for name in batches.LABEL_NAMES if isinstance(parts.get(name), Tensor)), None)
        fits = found is not None and found.shape == self.input_ids(parts).shape and not found.is_floating_point()
        return found if fits else None

    def _tags(self, logits: Tensor, batch: Any) -> list[list[tuple[int, str]]]:
        """Return for each example the place and the predicted tag of each of its words."""
        labels = self.label_names(logits.shape[2])
        best, places = logits.argmax(dim=2).tolist(), self.places(batch)
        return [[(t, labels[best[i][t]]) for t in row.nonzero().flatten().tolist()] for i, row in enumerate(places)]

    def _gold_tags(self, batch: Any) -> list[list[tuple[int, str]]] | None:
        gold = self._gold(batch)
        if gold is None:
            return None
        named = dict(enumerate(self._labels or ()))
        beyond = sorted({k for k in gold.unique().tolist() if k != -100 and (k < 0 or (named and k not in named))})
        if beyond:
            raise ValueError(
                f"The batch has labels {beyond} of tokens, which are none of {len(named) or 'the'} tags: give −100 "
                "where a token has none."
            )
        return [[(t, named.get(k, str(k))) for t, k in enumerate(row) if k != -100] for row in gold.tolist()]

    def _found(self, row: Sequence[tuple[int, str]], labels: Sequence[str], which: str) -> list[tuple[str, list]]:
        """Return the name and the words of each target of an example."""
        if which == "words" or not tags.marked(labels):
            return [(tag, [(place, tag)]) for place, tag in row]
        spelled = entities([tag for _, tag in row])
        return [(each.type, list(row[each.start : each.end])) for each in spelled]

    def _likeliest(
        self, logits: Tensor, row: Sequence[tuple[int, str]], labels: Sequence[str], *, keep: bool
    ) -> list[tuple[str, list]]:
        """Return the word most like an entity, where there is none; with its own tag, or the likeliest other."""
        if not row:
            return []
        outside, places = labels.index(OUTSIDE), torch.tensor([place for place, _ in row], device=logits.device)
        known = logits[places].detach().float().log_softmax(dim=1)
        place, tag = row[int(known[:, outside].argmin())]
        if not keep:
            tag = labels[int(runner_up(logits[place], torch.tensor(outside, device=logits.device)))]
        return [(tags.type_of(tag), [(place, tag)])]

    def _types(self, which: str, labels: Sequence[str]) -> tuple[str | None, str | None]:
        """Return the type, or the two of a contrast, that targets are scored as; None for what they are."""
        if which in ("predicted", "gold", "words"):
            return None, None
        known = [*dict.fromkeys([*tags.types(labels), *labels])]
        if which in known:
            return which, None
        for cut in (i for i, character in enumerate(which) if character == "-"):
            first, second = which[:cut].strip(), which[cut + 1 :].strip()
            if first in known and second in known and first != second:
                return first, second
        raise ValueError(unknown("which", which, ["predicted", "gold", "words", *known]))

    def _ends(self, batch: Any) -> list[dict[int, int]]:
        """Return for each example and place of a word one past the word's last token."""
        parts, found = self.parts(batch), list[dict[int, int]]()
        ids, there = self.input_ids(parts), self.attention_mask(parts) != 0
        own = (there & ~special_mask(ids, self.tokenizer)).tolist()
        for row, inside in zip(self.places(batch), own, strict=True):
            places = row.nonzero().flatten().tolist()
            found.append({})
            for place, limit in zip(places, [*places[1:], len(inside)], strict=True):
                outside = (t for t in range(place + 1, limit) if not inside[t])
                found[-1][place] = next(outside, limit)
        return found

    def _as(self, tag: str, other: str, labels: Sequence[str]) -> str:
        return other if other in labels else tags.as_type(tag, other, labels)


def _counted(row: Sequence[str]) -> str:
    """Return how many entities of each type tags spell: ``person ×2, location``."""
    counts = Counter(each.type for each in entities(row))
    said = (kind if count == 1 else f"{kind} ×{count}" for kind, count in counts.items())
    return ", ".join(said) or NOTHING


def _at(row: Sequence[tuple[int, str]], places: Sequence[int]) -> str:
    """Return what tags say at some places: the type where an entity is exactly there, else the tags."""
    order = {place: n for n, (place, _) in enumerate(row)}
    wanted = [order[place] for place in places if place in order]
    if not wanted:
        return OUTSIDE
    spelled = entities([tag for _, tag in row])
    exact = next((each for each in spelled if (each.start, each.end) == (wanted[0], wanted[-1] + 1)), None)
    if exact is not None:
        return exact.type
    found = [row[n][1] for n in wanted]
    return OUTSIDE if set(found) == {OUTSIDE} else " ".join(found)
