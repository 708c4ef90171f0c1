"""Multi30k: a small encoder-decoder from scratch, and the source word that each word of a translation comes from."""

from __future__ import annotations

import random
from argparse import Namespace
from pathlib import Path
from typing import Any

from task_runs import Figures, fitted, written

from lightning_interpret import GenerationDataModule, SaliencyMonitor
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


def generated(folder: Path, count: int) -> None:
    """Write rows as Multi30k has them, whose words are translated one by one."""
    drawn = random.Random(0)
    words = [[(en, de[0]) for en, de in PAIRS.items()][i] for i in (0, 2, 9, 14, 25, 27, 30, 33)]
    for split in ("train.tsv", "dev.tsv"):
        rows = ([drawn.choice(words) for _ in range(drawn.randint(3, 5))] for _ in range(count))
        lines = ("\t".join(" ".join(side) for side in zip(*row, strict=True)) for row in rows)
        (folder / split).write_text("en\tde\n" + "\n".join(lines) + "\n", encoding="utf8")


def run(args: Namespace, folder: Path) -> dict[str, Figures]:
    """Return the figures of a run."""
    given = folder / "multi30k_en_de"
    if args.quick:
        generated(folder, 48)
        given = folder
    train = next(given.glob("train.tsv*"))
    data: Any = GenerationDataModule(
        train_file=str(train),
        val_file=str(given / "dev.tsv"),
        source_column="en",
        target_column="de",
        max_length=64,
        batch_size=args.batch_size,
        encoder_decoder=True,
    )
    data.setup("fit")
    texts = [text for row in data.rows["train"] for text in (row.source, row.target)]
    module = small_encoder_decoder(
        texts,
        learning_rate=args.learning_rate or 2e-3,
        vocabulary=4000,
        max_length=64,
        generate={"max_new_tokens": 32},
        bleu_batches=2,
    )
    monitor = SaliencyMonitor(output="log_prob", probes=args.probes or 3, max_seconds=None, on_error="raise")
    module, figures, _ = fitted(args, module, data, [monitor])
    return {"model": figures}
