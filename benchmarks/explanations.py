"""Models that write why they predict what they predict, on texts whose labels people explained in words.

    python benchmarks/explanations.py --data-folder DATA --threads 1
    python benchmarks/explanations.py --data-folder DATA --model T5 --epochs 3 --learning-rate 3e-4

e-SNLI and CoS-E; a small mBART from scratch with a vocabulary of the training texts, or a pretrained encoder-decoder or
decoder that is fine-tuned. The plain model is the same language model, which learns to write the label alone. (Norms
stand before each part of an mBART, so that it takes high learning rates: after 300 steps on e-SNLI it gave a person's
words 4.4 nats a token, a BART 4.6, and a T5 of the same size 5.2 to 6.3 at the scales and learning rates tried. A
BART came to write one sentence for all texts.)

* accuracy: of the labels. Where the label is read from an explanation: the model's own, a person's, none (erased), and
  that of another text (exchanged). Where it is not, nothing that the explanation says could move it.
* overlap: F1 of its words with a person's, and of another text's explanation with the same.
* ended: explanations that say something and that the model ended itself. Distinct: those that no other one equals.
* simulatability: how often a small encoder foresees the model's prediction from text and explanation, and from the
  text alone. It has learnt that from rows which neither model nor table has seen. LAS is the gain of that, apart from
  what leaks: the mean of the gain where the explanation alone gives the prediction away, and where it does not.
* seconds: of the processor, which a busy machine changes less.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from explanation_data import SETS, Data, loader, read_some
from lightning.pytorch import Trainer, seed_everything
from sst2 import where_run
from torch import Tensor
from transformers import MBartConfig

from lightning_interpret import GeneratedTextClassifier, train_simulator
from lightning_interpret.functional.overlap import word_f1
from lightning_interpret.modules.from_scratch import word_piece
from lightning_interpret.modules.portable import config_values
from lightning_interpret.rationales import GeneratedRow

ORDERS = ("predict_then_explain", "explain_then_predict", "jointly")
LENGTH = 128  # tokens of a text
TABLES = {
    "labels and explanations": (
        *("accuracy", "of a person's", "erased", "exchanged", "overlap", "of another", "ended", "distinct"),
        *("training s", "reading s"),
    ),
    "simulatability": ("with explanation", "without", "LAS", "leaking", "opaque", "leaked", "seconds"),
}
Figures = dict[str, float]


def built(args: Namespace, data: Data, order: str, plain: bool) -> GeneratedTextClassifier:
    """Return a model that is not trained: pretrained, or from scratch."""
    options: dict[str, Any] = {"generated_order": order, "generated_max_tokens": args.max_tokens}
    if order == "explain_then_predict":
        options["generated_reads"] = data.reads
    if args.model:
        module = GeneratedTextClassifier(args.model, data.labels, args.learning_rate or 3e-4, **options)
    else:
        words = [text for row in data.train for text in (row.text, row.explanation)]
        frame = [" ".join([*data.labels, "label: explanation:"])] * len(data.train)  # whole words, however rare
        tokenizer = word_piece([*words, *frame], vocabulary=args.vocabulary)
        ends = ("encoder", "decoder")
        sizes = {f"{end}_layers": args.blocks for end in ends} | {f"{end}_attention_heads": 4 for end in ends}
        sizes |= {f"{end}_ffn_dim": 2 * args.width for end in ends}
        config = MBartConfig(
            vocab_size=len(tokenizer),
            d_model=args.width,
            **sizes,
            max_position_embeddings=tokenizer.model_max_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            decoder_start_token_id=tokenizer.cls_token_id,
            forced_eos_token_id=None,
            init_std=0.05,
        )
        given: dict[str, Any] = {"config": config_values(config), "tokenizer": tokenizer}
        module = GeneratedTextClassifier(None, data.labels, args.learning_rate or 2e-3, **given, **options)
    if plain:
        module.become_plain()
    return module


def train(args: Namespace, data: Data, order: str, seed: int, *, plain: bool = False) -> tuple[Any, float]:
    """Return a trained model, and the processor seconds that took."""
    seed_everything(seed, verbose=False)
    module = built(args, data, order, plain)
    trainer = Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    begin = time.process_time()
    trainer.fit(module, loader(module.tokenizer, data.train, LENGTH, args.batch_size, shuffle=True))
    return module.eval(), time.process_time() - begin


def right(scores: Tensor, batch: Any) -> list[bool]:
    """Return whether each label is right."""
    return (scores.argmax(dim=1) == batch["labels"]).tolist()


@torch.no_grad()
def accuracies(module: Any, data: Data, size: int) -> Figures:
    """Return how often labels are right, and where they are read from explanations, how often with others."""
    found: dict[str, list[bool]] = {}
    for batch in loader(module.tokenizer, data.test, LENGTH, size):
        read = {"accuracy": batch}
        if module.generated.explains_first:
            own, given = module.write_explanations(batch).filled(-100), batch["explanation_ids"]
            others = {"accuracy": own, "of a person's": given, "erased": own[:, :0], "exchanged": own.roll(1, dims=0)}
            read = {name: {**batch, "written_ids": ids} for name, ids in others.items()}
        for name, each in read.items():
            found.setdefault(name, []).extend(right(module(each), batch))
    return {name: 100 * sum(each) / len(each) for name, each in found.items()}


def said(module: Any, rows: Any, size: int) -> list[GeneratedRow]:
    """Return what a model says of some rows."""
    return [row for batch in loader(module.tokenizer, rows, LENGTH, size) for row in module.explain(batch)]


def described(module: Any, rows: list[GeneratedRow], limit: int) -> Figures:
    """Return what explanations are like, beside people's and one another."""
    texts = [row.explanation for row in rows]
    pairs = [(i, row.gold_explanation) for i, row in enumerate(rows) if row.gold_explanation]
    own, other = ([word_f1(texts[i - shift], gold) for i, gold in pairs] for shift in (0, 1))
    count, lengths = Counter(texts), [len(ids) for ids in module.tokenizer(texts, add_special_tokens=False).input_ids]
    shares: dict[str, list[float]] = {
        "overlap": own,
        "of another": other,
        "ended": [0 < length < limit for length in lengths],
        "distinct": [count[text] == 1 for text in texts],
    }
    return {name: 100 * sum(each) / len(each) for name, each in shares.items()}


def simulated(args: Namespace, data: Data, learnt: list[GeneratedRow], rows: list[GeneratedRow], seed: int) -> Figures:
    """Return how well a simulator foresees the predictions of some rows, which has learnt from others."""
    begin = time.process_time()
    score = train_simulator(learnt, data.labels, model=args.encoder_folder, seed=seed).score(rows)
    figures = {"with explanation": score.with_explanation, "without": score.without, "LAS": score.las}
    figures |= {"leaking": score.leaking, "opaque": score.opaque, "leaked": score.leaked}
    seconds = {"seconds": time.process_time() - begin}
    return {name: 100 * float(each) for name, each in figures.items()} | seconds


def compared(args: Namespace, data: Data, seed: int) -> Iterator[tuple[str, Figures]]:
    """Yield the figures of each model."""
    plain, spent = train(args, data, ORDERS[0], seed, plain=True)
    yield "plain", accuracies(plain, data, args.batch_size) | {"training s": spent}
    for order in args.orders:
        module, spent = train(args, data, order, seed)
        figures = accuracies(module, data, args.batch_size)
        begin = time.process_time()
        rows, others = (said(module, each, args.batch_size) for each in (data.test, data.other))
        figures |= described(module, rows, args.max_tokens) | {"training s": spent}
        figures["reading s"] = time.process_time() - begin
        for row in rows[: args.shown] if not seed else ():
            print(f"- {order}: {row.text!r}\n  {row.prediction} ({row.gold}): {row.explanation!r}", flush=True)
        yield order, figures | simulated(args, data, others, rows, seed)


def main() -> None:
    """Print two tables for each set."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-folder", required=True, help="holds esnli/ and cose/")
    parser.add_argument("--model", help="a pretrained model that writes, as a transformers directory")
    parser.add_argument("--encoder-folder", help="a pretrained encoder as the simulator (default: one from scratch)")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="(default: all)")
    parser.add_argument("--orders", nargs="+", choices=ORDERS, default=ORDERS, help="(default: all)")
    parser.add_argument("--learning-rate", type=float, help="(default: 2e-3 from scratch, 3e-4 of a pretrained model)")
    numbers = {"seeds": 1, "examples": 3000, "simulated": 800, "test": 500, "epochs": 5, "batch-size": 16}
    numbers |= {"max-tokens": 32, "vocabulary": 3000, "width": 128, "blocks": 2, "shown": 0}
    numbers |= {"threads": torch.get_num_threads()}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"On {where_run(torch.device('cpu'))}.")
    for name in args.sets:
        data = read_some(name, Path(args.data_folder), args.examples, args.simulated, args.test)
        found: dict[str, list[Figures]] = {}
        for seed in range(args.seeds):
            for line, figures in compared(args, data, seed):
                found.setdefault(line, []).append(figures)
                print(f"{line}: {', '.join(f'{name} {each:.1f}' for name, each in figures.items())}", flush=True)
        where = args.model or f"mBART of {args.blocks} + {args.blocks} layers and {args.width} dimensions"
        print(f"\n{name}: {len(data.train):,} training texts, {len(data.test)} read, {len(data.other):,} for the")
        print(f"simulator, {where}, {args.epochs} epochs, means over {args.seeds} seeds, %")
        for title, heads in TABLES.items():
            print(f"\n| {title} | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
            for line, rows in found.items():
                if any(head in rows[0] for head in heads if head != "accuracy"):
                    print(f"| {line} | " + " | ".join(_cell([row.get(head) for row in rows]) for head in heads) + " |")
        print(flush=True)


def _cell(values: list[float | None]) -> str:
    known = torch.tensor([torch.nan if value is None else value for value in values], dtype=torch.float64)
    if known.isnan().any():
        return ""
    return f"{known.mean():.1f}" + (f" ± {known.std():.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
