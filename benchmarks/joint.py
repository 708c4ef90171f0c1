"""What joint methods cost: a training step with each beside one without, and the read-out of influence.

    python benchmarks/joint.py --encoder-folder MINILM --threads 1

Without an encoder it is a BERT of MiniLM's size with random weights: what is measured depends on sizes alone, and the
texts are random tokens. The variants of one comparison take turns, so that whatever else the machine does hits all
of them; a ratio is the median over the rounds of a variant's seconds by those of the first in the same round. "CPU"
is of processor seconds, which a busy machine changes less.

* steps: forward, backward and AdamW on one batch. Plain dropout acts at the same sites with a mask for each example.
  Beside a model that writes explanations stands the same one, which scores the words of all labels from the text.
* read-out: influence of all training examples on all queries, beside the two forwards a pair that one would write
  down, which are run on some pairs alone. Where masks act in every block, the masks of each query's nearest examples
  are read, and a few queries are run: the rest is extrapolated.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import torch
from sst2 import quantile
from torch import Tensor

from lightning_interpret import (
    ConceptBottleneckMixin,
    GeneratedTextClassifier,
    KernelMixin,
    RationaleMixin,
    TextClassifier,
    TurnOverDropoutInfluence,
    TurnOverDropoutMixin,
)
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.layers.explanation_format import ORDERS
from lightning_interpret.modules.from_scratch import word_piece
from lightning_interpret.modules.joint import SpanTextClassifier
from lightning_interpret.trainer.context import mute

CLASSES = ["0", "1", "2", "3", "4", "5"]


class TurnOver(TurnOverDropoutMixin, TextClassifier):
    """Trained with turn-over dropout."""


def made(args: Namespace, kind: type[TextClassifier], **options: Any) -> Any:
    """Return a classifier of the encoder, or of its size."""
    torch.manual_seed(0)
    sizes = {"hidden_size": args.width, "intermediate_size": 4 * args.width, "num_hidden_layers": args.blocks}
    config = {"model_type": "bert", "num_attention_heads": args.width // 32, "pad_token_id": 0, **sizes}
    source: dict[str, Any] = {"model": args.encoder_folder} if args.encoder_folder else {"config": config}
    module = kind(labels=CLASSES, **source, **options)
    module.configure_model()
    mute(module)
    return module.train()


def drawn(args: Namespace, count: int, first: int = 0) -> dict[str, Tensor]:
    """Return a batch of random tokens."""
    generator = torch.Generator().manual_seed(first)
    ids = torch.randint(1000, 30000, (count, args.length), generator=generator)
    labels = torch.randint(len(CLASSES), (count,), generator=generator)
    places = torch.arange(first, first + count)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels, "example_id": places}
    batch["concepts"] = torch.randint(2, (count, args.concepts), generator=generator)
    return batch | {"explanation_ids": torch.randint(1000, 30000, (count, args.explanation), generator=generator)}


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return seconds, and processor seconds, of each call in each round; the first round is not counted."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            begin, used = time.perf_counter(), time.process_time()
            call()
            if number:
                found[name].append((time.perf_counter() - begin, time.process_time() - used))
    return found


def compare_steps(args: Namespace, title: str, modules: dict[str, Any]) -> None:
    """Print the seconds of a step of each module."""
    batch = drawn(args, args.batch_size)

    def stepping(module: Any) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)

        def step() -> None:
            module.training_step(batch, 0).backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    found = in_turn({name: stepping(module) for name, module in modules.items()}, args.rounds)
    first = next(iter(found.values()))
    print(f"\n{title}: {args.batch_size} × {args.length} tokens, {args.rounds} rounds\n")
    print("| | ms, median | ms, least | ratio | ratio, CPU |\n| --- |" + " ---: |" * 4)
    for name, rows in found.items():
        seconds = [row[0] for row in rows]
        ratios = [[row[i] / other[i] for row, other in zip(rows, first, strict=True)] for i in (0, 1)]
        figures = [1000 * quantile(seconds, 0.5), 1000 * min(seconds), *(quantile(each, 0.5) for each in ratios)]
        print(f"| {name} | {figures[0]:.1f} | {figures[1]:.1f} | {figures[2]:.3f} | {figures[3]:.3f} |", flush=True)


def compare_dropout(args: Namespace) -> None:
    """Turn-over dropout beside plain dropout."""
    plain, joint = made(args, TurnOver), made(args, TurnOver)
    plain.become_plain()
    modules = {"plain dropout": plain, "turn-over dropout": joint, "neither": made(args, TextClassifier)}
    compare_steps(args, f"Turn-over dropout at {len(joint.turn_over_dropout.sites)} sites", modules)


def compare_kernel(args: Namespace) -> None:
    """The kernel layer beside the head alone."""

    class Kernel(KernelMixin, TextClassifier):
        """Trained with a kernel layer before its head."""

    joint = made(args, Kernel, kernel_landmarks=args.landmarks)
    features = torch.randn(2 * args.landmarks, joint.kernel.width, generator=torch.Generator().manual_seed(0))
    joint.kernel.choose(features, "random")
    modules = {"head alone": made(args, TextClassifier), f"kernel layer, {args.landmarks} landmarks": joint}
    compare_steps(args, "Kernel layer before the head", modules)


def compare_concepts(args: Namespace) -> None:
    """A concept bottleneck beside the head alone."""

    class Concepts(ConceptBottleneckMixin, TextClassifier):
        """Trained with a concept bottleneck before its head."""

    modules = {"without concepts": made(args, TextClassifier)}
    for name, options in {"stopped gradient": {}, "joint": {"concept_stop_gradient": False}}.items():
        names = [f"c{i}" for i in range(args.concepts)]
        modules[f"{args.concepts} concepts, {name}"] = made(args, Concepts, concept_names=names, **options)
    compare_steps(args, "Concept bottleneck before the head", modules)
    compare_kept(args, modules)


def compare_spans(args: Namespace) -> None:
    """A span layer between the encoder and the head beside none."""
    modules = {"without spans": made(args, TextClassifier)}
    for width in sorted({args.span_width // 2 or 1, args.span_width}):
        modules[f"spans, width {width}"] = made(args, SpanTextClassifier, span_width=width)
    compare_steps(args, "Span layer between encoder and head", modules)
    compare_kept(args, modules)


def compare_kept(args: Namespace, modules: dict[str, Any]) -> None:
    """Print the memory that a step of each module holds when it is most, but for weights and their gradients."""
    kept = {name: kept_for_backward(module, drawn(args, args.batch_size)) / 2**20 for name, module in modules.items()}
    print(f"\nKept for the backward pass, MB: {', '.join(f'{name} {size:.2f}' for name, size in kept.items())}")


def kept_for_backward(module: Any, batch: dict[str, Tensor]) -> int:
    """Return the bytes that a step keeps from the forward to the backward pass, weights not counted."""
    own, found = {each.untyped_storage().data_ptr() for each in module.parameters()}, dict[int, int]()

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        module.training_step(batch, 0).backward()
    module.zero_grad()
    return sum(found.values())


def compare_rationale(args: Namespace) -> None:
    """A gate over tokens, with each generator and two kinds of draws, beside the whole text."""

    class Rationale(RationaleMixin, TextClassifier):
        """Selects tokens and predicts from these alone."""

    modules = {
        "whole text": made(args, TextClassifier),
        "own generator": made(args, Rationale),
        "own generator, hard Kumaraswamy": made(args, Rationale, rationale_gate="hard_kumaraswamy"),
        "own generator, REINFORCE": made(args, Rationale, rationale_gate="reinforce"),
        "the encoder reads first": made(args, Rationale, rationale_generator="shared"),
    }
    compare_steps(args, "A gate over tokens", modules)
    compare_kept(args, modules)


def compare_generated(args: Namespace) -> None:
    """A language model that learns labels and explanations, in each order, beside one that learns the label alone."""
    tokenizer = word_piece([*CLASSES, "label: explanation:"])
    config = {"model_type": "t5", "vocab_size": 30522, "num_layers": args.blocks, "num_heads": args.width // 32}
    config |= {"d_model": args.width, "d_kv": 32, "d_ff": 4 * args.width, "decoder_start_token_id": 0}

    def writing(order: str) -> Any:
        torch.manual_seed(0)
        options = {"generated_order": order, "generated_max_tokens": args.explanation}
        module = GeneratedTextClassifier(config=dict(config), labels=CLASSES, tokenizer=tokenizer, **options)
        mute(module)
        return module.train()

    plain = writing("predict_then_explain")
    plain.become_plain()
    modules = {"label alone": plain} | {order.replace("_", " "): writing(order) for order in ORDERS}
    size = f"T5 of {args.blocks} + {args.blocks} blocks, {len(CLASSES)} labels"
    compare_steps(args, f"{size}, explanations of {args.explanation} tokens", modules)
    compare_kept(args, modules)


def naive(module: Any, queries: dict[str, Tensor], pairs: list[tuple[int, int]]) -> Tensor:
    """Return the influence of training examples on queries, by two forwards of each pair."""
    task, found = module.interpret_task(), []
    with torch.no_grad():
        for query, example in pairs:
            batch = task.take(queries, torch.tensor([query]))
            scopes = (module.turn_over_dropout.unseen, module.turn_over_dropout.seen)
            losses = []
            for scope in scopes:
                with scope(torch.tensor([example])):
                    losses.append(task.losses(module, batch))
            found.append(losses[0] - losses[1])
    return torch.cat(found)


def compare_readout(args: Namespace) -> None:
    """The read-out beside two forwards a pair."""
    queries = drawn(args, args.queries, first=args.examples)
    texts = [drawn(args, min(64, args.examples - i), first=i) for i in range(0, args.examples, 64)]
    head = made(args, TextClassifier)
    head = made(args, TurnOver, turn_over_layers=[f"input of {last_linear(head)}"]).eval()
    deep = made(args, TurnOver).eval()
    print(f"\nRead-out of {args.examples:,} training examples × {args.queries} queries of {args.length} tokens\n")
    print("| | s, all | two forwards a pair, s, all | ratio | error |\n| --- |" + " ---: |" * 4)
    took, ids, scores = read(head, queries, texts, "all")
    compare_pairs(args, "masks at the head", head, queries, took, ids, scores)
    few = deep.interpret_task().take(queries, torch.arange(min(3, args.queries)))
    one = deep.interpret_task().take(queries, torch.arange(1))
    first, ids, scores = read(deep, one, texts, args.shortlist)
    near = texts[: -(-args.shortlist // 64)]
    each, those, _ = read(deep, few, near, "all")
    each *= args.shortlist / len(those) / min(3, args.queries)
    name = f"masks in every block, shortlist {args.shortlist:,}"
    compare_pairs(args, name, deep, queries, first + each * (args.queries - 1), ids, scores)
    print(f"\nTwo forwards a pair were run on {args.pairs} pairs. In every block the first query takes {first:.3g} s,")
    print(f"as it pays for a pass over the training data, and each further one {each:.3g} s.")


def compare_pairs(
    args: Namespace, name: str, module: Any, queries: Any, took: float, ids: Tensor, scores: Tensor
) -> None:
    """Print the row of a read-out that took so many seconds, beside two forwards a pair."""
    pairs = scores.nonzero()
    pairs = pairs[torch.randint(len(pairs), (args.pairs,), generator=torch.Generator().manual_seed(0))]
    begin = time.perf_counter()
    true = naive(module, queries, [(int(query), int(ids[column])) for query, column in pairs])
    naively = (time.perf_counter() - begin) / args.pairs * args.examples * args.queries
    error = float((scores[pairs[:, 0], pairs[:, 1]] - true).abs().max() / true.abs().max())
    print(f"| {name} | {took:.4g} | {naively:.4g} | {naively / took:.0f} × | {error:.0e} |", flush=True)


def read(module: Any, queries: Any, texts: list[Any], shortlist: Any) -> tuple[float, Tensor, Tensor]:
    """Return the seconds of a fit and all scores, the ids, and the scores ``(M, n)``."""
    begin = time.perf_counter()
    fitted = TurnOverDropoutInfluence(shortlist=shortlist).fit(module, texts, module.interpret_task())
    ids, scores = fitted.matrix(queries)
    return time.perf_counter() - begin, ids, scores


PARTS = {
    "dropout": compare_dropout,
    "kernel": compare_kernel,
    "concepts": compare_concepts,
    "spans": compare_spans,
    "rationale": compare_rationale,
    "generated": compare_generated,
    "readout": compare_readout,
}


def main() -> None:
    """Print the tables that were asked for."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=list(PARTS), default=list(PARTS), help="(default: all)")
    parser.add_argument("--encoder-folder", help="a pretrained encoder as a transformers directory")
    numbers = {
        "batch-size": 32,
        "length": 32,
        "rounds": 30,
        "landmarks": 100,
        "concepts": 20,
        "span-width": 8,
        "explanation": 16,
        "width": 384,
        "blocks": 6,
    }
    numbers |= {"examples": 10_000, "queries": 100, "shortlist": 1000, "pairs": 200, "threads": torch.get_num_threads()}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help="(default: %(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"On the CPU, {args.threads} threads.")
    for part in args.what:
        PARTS[part](args)


if __name__ == "__main__":
    main()
