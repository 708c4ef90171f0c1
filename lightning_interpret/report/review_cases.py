"""One bad case in plain sentences: what the model said, because of which words, and which training texts are alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from lightning_interpret.bad_cases import BadCaseRow, Erasure
from lightning_interpret.evidence import TrainingExample
from lightning_interpret.report.catalogue import Said, Share, Voices, said
from lightning_interpret.report.excerpt import SHORT, Word, excerpt, found_in, reasons, whole, words_of
from lightning_interpret.report.review_parts import Report, finite, label, label_cell, quoted, table, text_cell

_SIMILAR, _ERASED = 5, 2  # training texts of a case, and sentences about words that were taken out
_LESS = 0.05  # by which a probability has to fall to be told
_UNSEEN, _FAR = 0.2, 0.9  # shares of new words, and of right texts nearer to training data, that are told


def article(say: Voices, report: Report, case: BadCaseRow) -> str:
    """Return a case as HTML."""
    text = case.text or ""
    words = _tried(case, words_of(case.attribution, text)) if _of_prediction(case) else []
    known = words or found_in(text, [case.cue] if case.cause in ("shortcut", "composition") else [])
    shown = f'<p class="text" dir="auto">{excerpt(text, known)}</p>' if text.strip() else ""
    sentences = "".join(f"<li>{say.of(each)}</li>" for each in _sentences(case, words))
    parts = [
        f"<h5>{say.of(report.where('val', case.example_id, case.index))}</h5>",
        shown or f"<p>{say('row.no_text')}</p>",
        f"<ul>{sentences}</ul>",
        _whole(say, text, known) if len(text) > SHORT else "",
        *_training(say, report, case),
    ]
    return f'<article class="case">{"".join(parts)}</article>'


def _of_prediction(case: BadCaseRow) -> bool:
    """Return whether the attribution says why the model predicted what it did, and not something else."""
    asked = case.attribution.target_name if case.attribution is not None else None
    return asked is not None and asked in (case.prediction, f"{case.prediction}-{case.gold}")


def _tried(case: BadCaseRow, words: Sequence[Word]) -> list[Word]:
    """Return the words with the side of those that was tried: what turns the answer when taken out speaks for it.

    An attribution only estimates that: where all words that were taken out add up to the other side, it is wrong.
    """
    scores = {word.number: word.score for word in words}
    turned: set[int] = set()
    for each in _told(case):
        if each.prediction != case.prediction and sum(scores.get(place, 0.0) for place in each.words) < 0:
            turned |= set(each.words)
    return [replace(word, score=abs(word.score)) if word.number in turned else word for word in words]


def _sentences(case: BadCaseRow, words: Sequence[Word]) -> Iterator[Said]:
    answer, share = label(case.prediction), Share(case.confidence)
    if case.gold is None:
        yield said("case.open", answer=answer, share=share)
    elif case.wrong:
        yield said("case.wrong", answer=answer, share=share, label=label(case.gold))
    else:
        yield said("case.unsure", answer=answer, share=share)
    named, most = reasons(words, case.text or "")
    erased = _told(case)
    if named:
        shown = most and any(_same(each, named) for each in erased)
        yield said("case.mainly" if shown else "case.most", words=[quoted(each) for each in named])
    yield from (_without(case, each) for each in erased[:_ERASED])
    yield from _similar(case)
    if case.unseen is not None and case.unseen >= _UNSEEN:
        yield said("case.unseen", share=Share(case.unseen))
    if case.distance_rank is not None and case.distance_rank >= _FAR:
        yield said("case.far", share=Share(case.distance_rank))


def _told(case: BadCaseRow) -> list[Erasure]:
    """Return what is worth a sentence: words that turn or lower the answer, the fewest first, none around others."""
    found = [
        each
        for each in case.erasures
        if finite(each.after)
        and (each.prediction != case.prediction or (finite(each.before) and each.before - each.after >= _LESS))
    ]
    told: list[Erasure] = []
    for each in sorted(found, key=lambda each: (each.prediction == case.prediction, len(each.words), each.after)):
        if not any(set(known.words) <= set(each.words) for known in told):
            told.append(each)
    return told


def _same(erased: Erasure, named: Sequence[str]) -> bool:
    """Return whether the words that were taken out are among those that are named."""
    every = f" {' '.join(named)} ".casefold()  # words of scripts with spaces are whole ones: "i" is not in "fries"
    return any((f" {word} " if word.isascii() else word) in every for word in erased.text.casefold().split())


def _without(case: BadCaseRow, erased: Erasure) -> Said:
    """Return what became of the answer without some words."""
    words = [quoted(each) for each in _phrases(erased)]
    if erased.prediction != case.prediction:
        return said("case.turns", words=words, answer=label(erased.prediction))
    shares = {"before": Share(erased.before), "after": Share(erased.after)}
    return said("case.stays", words=words, answer=label(case.prediction), **shares)


def _phrases(erased: Erasure) -> list[str]:
    """Return the words that were taken out, those side by side as one phrase, each once."""
    words = erased.text.split(" ")
    if len(words) != len(erased.words):
        return [erased.text]
    phrases: list[list[str]] = []
    for i, word in enumerate(words):
        if i and erased.words[i] == erased.words[i - 1] + 1:
            phrases[-1].append(word)
        else:
            phrases.append([word])
    return list(dict.fromkeys(" ".join(phrase) for phrase in phrases))


def _similar(case: BadCaseRow) -> Iterator[Said]:
    labels = Counter(
        each.gold for each in (case.neighbors.neighbors if case.neighbors else ()) if each.gold is not None
    )
    if not labels:
        return
    total = sum(labels.values())
    name, count = max(labels.items(), key=lambda item: (item[1], item[0] == case.prediction))
    if count == total:
        yield said("case.similar.all", count=count, label=label(name))
        return
    yield said("case.similar.most", count=count, total=total, label=label(name))
    if case.gold is not None and case.gold not in labels:
        yield said("case.similar.none", label=label(case.gold))


def _whole(say: Voices, text: str, words: Sequence[Word]) -> str:
    shown, rest = whole(text, words)
    more = f"<p>{say('case.rest', count=rest)}</p>" if rest else ""
    return f'<details><summary>{say("case.whole")}</summary><p class="text" dir="auto">{shown}</p>{more}</details>'


def _training(say: Voices, report: Report, case: BadCaseRow) -> Iterator[str]:
    if case.neighbors is not None and case.neighbors.neighbors:
        yield _examples(say, report, said("case.neighbors"), case.neighbors.neighbors)
    found = case.influence
    if found is not None and found.harmful and found.approximation.measure is not None and case.wrong:
        yield _examples(say, report, said("case.leading"), found.harmful)


def _examples(say: Voices, report: Report, title: Said, found: Iterable[TrainingExample]) -> str:
    rows = [
        (say.of(report.where("train", each.example_id)), text_cell(say, each.text), label_cell(say, each.gold))
        for _, each in zip(range(_SIMILAR), found, strict=False)
    ]
    heads = [said(f"column.{name}") for name in ("where", "text", "label")]
    return f"<details><summary>{say.of(title)}</summary>{table(say, title, heads, rows, hidden=True)}</details>"
