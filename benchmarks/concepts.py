"""Concepts of words in a sentiment classifier: which are told from random ones, when, and how often wrongly.

MiniLM is fine-tuned on SST-2 under a ``ConceptMonitor``; then random sentences are taken for concepts, and each test is
asked how many of them it calls one: at a level of .05 it should be 5 in 100.

python benchmarks/concepts.py --data-folder data --encoder-folder minilm
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from sst2 import data_in, fine_tune, parser, timed, where_run

from lightning_interpret import ConceptActivationVectors, ConceptMonitor, ConceptSets, ConceptTest, ConceptTestRow
from lightning_interpret.data.concept_sets import concept_sources
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.encode import encode

CONCEPTS = {
    "praise": [
        "moving",
        "brilliant",
        "charming",
        "delightful",
        "enjoyable",
        "powerful",
        "beautiful",
        "engaging",
        "touching",
    ],
    "blame": ["dull", "bad", "worst", "tedious", "stupid", "flat", "boring", "mess", "lame"],
    "humour": ["funny", "comedy", "humor", "laughs", "laugh", "jokes"],
    "acting": ["actor", "actors", "actress", "cast", "performance", "performances"],
    "story": ["story", "plot", "script", "screenplay"],
    "people": ["woman", "man", "men", "women", "girl", "boy", "father", "mother", "family"],
}


def tables(path: Path) -> Iterator[tuple[int, ConceptTestRow]]:
    """Yield the step and the table of each validation."""
    for line in map(json.loads, path.read_text().splitlines()):
        row = ConceptTestRow.from_dict(line)
        if row.of_all:
            yield line["step"], row


def told(test: ConceptTest) -> str:
    """Return a test on a line."""
    about = f"{test.concept:>10} {test.target_name:<8}"
    if test.score is None or test.p is None:
        return f"{about}  {test.reason}"
    numbers = f"TCAV {test.score:.2f} [{test.low:.2f}, {test.high:.2f}]  effect {test.effect:+.3f}"
    rest = f"accuracy {test.accuracy:.2f}  stability {test.stability:.2f}  {test.verdict}"
    return f"{about}  {numbers}  p {test.p:.4f} -> {test.corrected_p:.4f}  {rest}"


def controls(args: Any, module: Any, method: ConceptActivationVectors) -> None:
    """Print how many sets of random sentences each test calls a concept, and how many of the words'."""
    data = data_in(args.data_folder)
    data.setup("fit")
    texts = [row.text for row in data.rows["train"]]
    random.Random(args.seed).shuffle(texts)
    having = {
        name: [text for text in texts if source.said_in(text)][: method.examples]
        for name, source in concept_sources(CONCEPTS).items()
    }
    needed = method.pool + args.controls * method.examples
    if len(texts) < needed:
        raise SystemExit(f"{needed} training sentences are needed, and there are {len(texts)}: lower --controls.")
    drawn = iter(texts)
    pool = [next(drawn) for _ in range(method.pool)]
    having |= {f"random {k}": [next(drawn) for _ in range(method.examples)] for k in range(args.controls)}
    tokenizer = module.tokenizer
    sets = ConceptSets.of(having, pool, lambda some: encode(tokenizer, some, max_length=64))
    task = find_task(module, tokenizer=tokenizer)
    fitted, seconds = timed(lambda: method.fit(module, sets, task), module.device)
    labels = {label: number for number, label in enumerate(data.labels)}
    rows = data.rows["val"][: args.examples]
    batches = [
        encode(tokenizer, [r.text for r in some], max_length=64, labels=[labels[r.label] for r in some]).to(
            module.device
        )
        for some in (rows[start : start + 32] for start in range(0, len(rows), 32))
    ]
    record, more = timed(lambda: fitted.scores(batches), module.device)
    print(f"\nAfter training: {len(having)} concepts fitted in {seconds:.1f} s, tested in {more:.1f} s.")
    print(f"Accuracy of random concepts' vectors {record.tests[0].random_accuracy:.2f}")
    for test, statistic in product(("random_concepts", "paper"), ("effect", "derivative", "score")):
        options = replace(method, test=test, statistic=statistic, correction="none")
        found = replace(fitted, method=options).scores(batches).tests
        called = {"random": [], "words": []}
        for each in found:
            called["random" if each.concept.startswith("random") else "words"].append(
                each.p is not None and each.p < 0.05
            )
        shares = "  ".join(f"{name} {sum(hits):>3} of {len(hits)}" for name, hits in called.items())
        print(f"{test:>16} {statistic:<11} p < .05: {shares}")


def main() -> None:
    """Train, and print the tests of each validation and how often random sentences are called a concept."""
    parse = parser(__doc__.partition("\n")[0])
    parse.add_argument("--examples", type=int, default=300, help="validation sentences counted (default: %(default)s)")
    parse.add_argument("--controls", type=int, default=30, help="sets of random sentences (default: %(default)s)")
    parse.add_argument("--set-size", type=int, default=50, help="examples of each set (default: %(default)s)")
    parse.add_argument("--random-concepts", type=int, default=20, help="for the tests (default: %(default)s)")
    parse.add_argument("--layer", help="name of the layer (default: the last block but one)")
    args = parse.parse_args()
    method = ConceptActivationVectors(args.layer, examples=args.set_size, random_concepts=args.random_concepts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "concepts.jsonl")
        monitor = ConceptMonitor(
            CONCEPTS, method, class_examples=args.examples, max_seconds=None, save_jsonl=str(path), on_error="raise"
        )
        module = fine_tune(args, folder, [monitor])
        metrics = module.trainer.callback_metrics
        print(f"On {where_run(module.device)}; accuracy {metrics['val_accuracy']:.3f}, ", end="")
        print(f"{metrics['interpret/concepts/seconds']:.1f} s a validation.")
        for step, row in tables(path):
            print(f"\nStep {step}, at {row.tests[0].layer}")
            print("\n".join(told(test) for test in row.tests))
    controls(args, module, method)


if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
