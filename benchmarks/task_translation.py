"""Multi30k: a small encoder-decoder from scratch, and the source word that each word of a translation comes from."""

from __future__ import annotations

import random
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from task_runs import Figures, batches, errors, fitted, mean

from lightning_interpret import GenerationDataModule, SaliencyMonitor
from lightning_interpret.explanations import AttributionRow
from lightning_interpret.methods import method_named
from lightning_interpret.modules.from_scratch import small_encoder_decoder

PAIRS = {
    "man": ("mann",),
    "men": ("männer", "männern"),
    "woman": ("frau",),
    "women": ("frauen",),
    "boy": ("junge", "jungen"),
    "girl": ("mädchen",),
    "child": ("kind",),
    "children": ("kinder", "kindern"),
    "people": ("menschen", "leute", "personen"),
    "dog": ("hund",),
    "dogs": ("hunde", "hunden"),
    "horse": ("pferd",),
    "water": ("wasser",),
    "street": ("straße",),
    "beach": ("strand",),
    "grass": ("gras",),
    "snow": ("schnee",),
    "ball": ("ball",),
    "bike": ("fahrrad",),
    "bicycle": ("fahrrad",),
    "car": ("auto",),
    "boat": ("boot",),
    "guitar": ("gitarre",),
    "shirt": ("hemd", "shirt"),
    "hat": ("hut",),
    "red": ("rot", "rote", "roten", "roter", "rotes"),
    "blue": ("blau", "blaue", "blauen", "blauer", "blaues"),
    "green": ("grün", "grüne", "grünen", "grüner", "grünes"),
    "white": ("weiß", "weiße", "weißen", "weißer", "weißes"),
    "black": ("schwarz", "schwarze", "schwarzen", "schwarzer", "schwarzes"),
    "two": ("zwei",),
    "three": ("drei",),
    "four": ("vier",),
    "and": ("und",),
    "with": ("mit",),
    "young": ("junge", "junger", "jungen", "junges"),
    "old": ("alte", "alter", "alten", "altes"),
    "front": ("vor",),
    "running": ("rennt", "läuft", "rennen", "laufen"),
    "runs": ("rennt", "läuft"),
    "sitting": ("sitzt", "sitzen"),
    "sits": ("sitzt",),
    "standing": ("steht", "stehen"),
    "stands": ("steht",),
    "playing": ("spielt", "spielen"),
    "plays": ("spielt",),
    "jumping": ("springt", "springen"),
    "jumps": ("springt",),
}
STEPS = ((1, 4), (4, 8), (8, 12), (12, 64))  # tokens of the output, from the first


def generated(folder: Path, count: int) -> None:
    """Write rows as Multi30k has them, whose words are translated one by one."""
    drawn = random.Random(0)
    words = [[(en, de[0]) for en, de in PAIRS.items()][i] for i in (0, 2, 9, 14, 25, 27, 30, 33)]
    for split in ("train.tsv", "dev.tsv"):
        rows = ([drawn.choice(words) for _ in range(drawn.randint(3, 5))] for _ in range(count))
        lines = ("\t".join(" ".join(side) for side in zip(*row, strict=True)) for row in rows)
        (folder / split).write_text("en\tde\n" + "\n".join(lines) + "\n", encoding="utf8")


def run(args: Namespace, folder: Path) -> dict[str, Figures]:
    """Return the figures of a run: of the model, its attributions, and what each word of a translation comes from."""
    given = folder / "multi30k_en_de"
    if args.quick:
        generated(folder, 48)
        given = folder
    data: Any = GenerationDataModule(
        train_file=str(next(given.glob("train.tsv*"))),
        val_file=str(given / "dev.tsv"),
        source_column="en",
        target_column="de",
        max_length=64,
        batch_size=args.batch_size,
        encoder_decoder=True,
    )
    data.setup("fit")
    module = small_encoder_decoder(
        [text for row in data.rows["train"] for text in (row.source, row.target)],
        learning_rate=args.learning_rate or 2e-3,
        vocabulary=4000,
        max_length=64,
        generate={"max_new_tokens": 32},
        bleu_batches=2,
    )
    monitor = SaliencyMonitor(output="log_prob", probes=args.probes or 3, max_seconds=None, on_error="raise")
    module, figures = fitted(args, module, data, monitor)
    return {"model": figures} | explained(args, module, data.val_dataloader())


def explained(args: Namespace, module: Any, loader: Any) -> dict[str, Figures]:
    """Return the figures of the tokens of people's translations of the first captions, each after the ones before."""
    task = module.interpret_task()
    method, attention = method_named("integrated_gradients"), method_named("attention_weights")
    rows: list[AttributionRow] = []
    pairs: list[dict[str, float]] = []
    for batch in batches(loader, args.examples):
        found = method(module, batch, task, which="gold", output="log_prob")  # all tokens of the batch in one call
        rows += found
        looked = attention(module, batch, task, which="gold", output="log_prob")
        pairs += filter(None, map(aligned, found, looked))
    likeliest = [pair for pair in pairs if pair["right"]]
    return {
        "attributions": errors(rows),
        "evidence": shares(rows),
        "source word of a translated word": _found(pairs),
        "source word of one that the model finds likeliest there": _found(likeliest),
    }


def aligned(row: AttributionRow, looked: AttributionRow) -> dict[str, float] | None:
    """Return whether each way finds the source word of a target, where the dictionary knows one and only one."""
    assert row.segment is not None
    step = sum(part == 1 for part in row.segment) - 1  # the decoder begins with a token of its own
    evidence = in_words(row, row.scores)
    asked = [i for i, (word, _) in enumerate(evidence) if row.target_name.lower() in PAIRS.get(word.lower(), ())]
    if len(asked) != 1:
        return None

    def found(words: list[tuple[str, float]]) -> float:
        return float(max(range(len(words)), key=lambda i: words[i][1]) == asked[0])

    return {
        "right": float(row.prediction == row.gold),
        "attribution": found(evidence),
        "size of attribution": found(in_words(row, [abs(score) for score in row.scores])),
        "attention": found(in_words(row, looked.scores)),
        "the word at the same place": float(asked[0] == min(step, len(evidence) - 1)),
        "chance": 1 / len(evidence),
    }


def in_words(row: AttributionRow, values: Sequence[float]) -> list[tuple[str, float]]:
    """Return the words of the source with the sum of the values of their tokens."""
    assert row.segment is not None
    sums: dict[int, float] = {}
    for word, part, value in zip(row.word_ids, row.segment, values, strict=True):
        if part == 0 and word is not None:
            sums[word] = sums.get(word, 0.0) + value
    return [(row.words[word].strip(), total) for word, total in sums.items()]


def shares(rows: Sequence[AttributionRow]) -> Figures:
    """Return how much of the scores' size stands at the source and not at earlier output, by the output's length."""
    names = (f"at the source %, output tokens {first + 1} to {last}" for first, last in STEPS)
    found: dict[str, list[float]] = {name: [] for name in names}
    for row in rows:
        assert row.segment is not None
        step, total = sum(part == 1 for part in row.segment) - 1, sum(map(abs, row.scores)) or 1.0
        source = sum(abs(score) for score, part in zip(row.scores, row.segment, strict=True) if part == 0)
        for (first, last), of in zip(STEPS, found.values(), strict=True):
            if first <= step < last:
                of.append(100 * source / total)
    return {name: mean(values) for name, values in found.items()}


def _found(pairs: Sequence[dict[str, float]]) -> Figures:
    names = [name for name in (pairs[0] if pairs else ()) if name != "right"]
    return {"words": len(pairs)} | {f"{name} %": 100 * mean(pair[name] for pair in pairs) for name in names}
