"""EK-FAC influence beside kronfluence's: seconds for factors and for scores, memory, and how far the two agree.

    python benchmarks/influence.py --data-folder DATA --encoder-folder MINILM
    python benchmarks/influence.py --what digits

The first, on SST-2: the classifier of `examples/sst2.yaml`, the first training sentences, queries of the dev split.
Each side runs in a process of its own, one after the other, on the same texts, layers (all linear ones), batch size
and damping. kronfluence gets texts padded to 64 tokens, as its examples do it; ours are sorted by length, and padded to
the longest of each batch. Memory is the most that a side's process held. One more process trains a plain epoch on
the same texts, which the time of scoring them all against one summed query is held to.

The second, on scikit-learn's digits: the linear datamodeling score of each method, from training on random halves.
kronfluence is left out, with a sentence, where it is not installed.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from influence_peer import Peer, there
from sst2 import data_in, fine_tune, parser, timed
from torch import Tensor, nn

from lightning_interpret import EkfacInfluence, ExactInfluence, GradientSimilarity
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import class_of
from lightning_interpret.functional.ranks import spearman
from lightning_interpret.tasks.encode import encode

CPU = torch.device("cpu")
PADDED = 64
PEER = "kronfluence EK-FAC"
SIDES = {
    PEER: None,
    "EK-FAC": EkfacInfluence(layers=["linear"]),  # stands for the names of the linear layers
    "EK-FAC, every layer": EkfacInfluence(),
    "gradient cosine, every layer": GradientSimilarity(),
    "exact, last layer": ExactInfluence(),
    "a plain epoch": None,
}


def texts(args: Namespace, module: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """Return the training sentences and the queries, each with its class."""
    data = data_in(args.data_folder)
    data.setup("fit")
    rows = data.rows["train"][: args.train], data.rows["val"][: args.queries]
    found = [[(row.text, class_of(row.label, module.labels)) for row in part] for part in rows]
    return found[0], found[1]


def encoded(module: Any, rows: list[tuple[str, int]], ids: list[int], padded: bool = False) -> dict[str, Tensor]:
    """Return rows as a batch, as wide as its longest text or :data:`PADDED`."""
    batch = dict(encode(module.tokenizer, [text for text, _ in rows], max_length=PADDED))
    tokens = {name: values for name, values in batch.items() if isinstance(values, Tensor) and values.dim() == 2}
    if padded:
        pad = {"input_ids": module.tokenizer.pad_token_id}
        tokens = {
            name: nn.functional.pad(values, (0, PADDED - values.shape[1]), value=pad.get(name, 0))
            for name, values in tokens.items()
        }
    return tokens | {"labels": torch.tensor([label for _, label in rows]), "example_id": torch.tensor(ids)}


def run_side(args: Namespace) -> None:
    """Run one side in this process, and write its figures and its scores."""
    torch.set_num_threads(args.threads)
    module = load_classifier(args.model).eval()
    train, queries = texts(args, module)
    order = sorted(range(len(train)), key=lambda i: len(module.tokenizer(train[i][0])["input_ids"]))
    parts = [order[i : i + args.batch_size] for i in range(0, len(order), args.batch_size)]
    query = encoded(module, queries, list(range(len(queries))))
    with torch.enable_grad():  # warm up
        module.interpret_task().losses(module, query).sum().backward()
    module.zero_grad()
    figures: dict[str, Any] = {"before": peak()}
    if args.side == "a plain epoch":
        figures["epoch"] = timed(lambda: epoch(module, train, args.seed), CPU)[1]
        scores = None
    elif args.side == PEER:
        model = module.model
        whole = encoded(module, train, list(range(len(train))), padded=True)
        peer = Peer(model, logits, whole, args.batch_size)
        _, figures["factors"] = timed(peer.factors, CPU)
        say(args.side, f"factors {figures['factors']:.1f} s")
        asked = encoded(module, queries, list(range(len(queries))), padded=True)
        scores, figures["scores"] = timed(lambda: peer.scores(asked), CPU)
    else:
        loader = [encoded(module, [train[i] for i in part], part) for part in parts]
        scores = run_ours(args, module, loader, query, figures)
    figures["peak"] = peak()
    torch.save({"figures": figures, "scores": scores}, args.out)
    say(args.side, f"done, {figures}")


def run_ours(args: Namespace, module: Any, loader: list[Any], query: Any, figures: dict[str, Any]) -> Tensor:
    """Fit and score, and return scores ``(M, n)`` in the order of the training sentences."""
    method, task = SIDES[args.side], module.interpret_task()
    assert method is not None
    if method.layers == ["linear"]:
        names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        method = EkfacInfluence(layers=names)
    fitted, figures["factors"] = timed(lambda: method.fit(module, loader, task), CPU)
    say(args.side, f"factors {figures['factors']:.1f} s, {fitted.approximation.coverage:.1%} of the parameters")
    (ids, scores), figures["scores"] = timed(lambda: fitted.matrix(query), CPU)
    say(args.side, f"scores {figures['scores']:.1f} s")
    _, figures["aggregate"] = timed(lambda: fitted.scores(query, aggregate=True, details=False), CPU)
    return scores[:, ids.argsort()]


def epoch(module: Any, train: list[tuple[str, int]], seed: int) -> None:
    """Train on the sentences once, as they come, in batches of 16 as wide as their longest."""
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    for rows in order.split(16):
        batch = encoded(module, [train[i] for i in rows.tolist()], rows.tolist())
        nn.functional.cross_entropy(module(batch), batch["labels"]).backward()
        optimizer.step()
        optimizer.zero_grad()


def logits(model: nn.Module, batch: Any) -> Tensor:
    """Return the class scores of a padded batch."""
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in batch}
    return model(**tokens).logits


def peak() -> float:
    """Return the most memory that this process has held, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def say(side: str, what: str) -> None:
    """Report progress."""
    print(f"{side}: {what}", file=sys.stderr, flush=True)


def measured(args: Namespace, side: str, folder: Path) -> dict[str, Any]:
    """Run a side in a process of its own and return what it found."""
    out = folder / "side.pt"
    words = [sys.executable, __file__, "--data-folder", args.data_folder, "--model", args.model, "--side", side]
    for name in ("train", "queries", "batch_size", "threads", "seed"):
        words += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    say(side, "begins")
    threads = str(args.threads)
    done = subprocess.run(
        [*words, "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "false"},
        stdout=sys.stderr,
    )
    if done.returncode:
        raise SystemExit(f"{side} failed.")
    return torch.load(out)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return a row for each side, with each figure's ratio to the peer's in brackets."""
    peer = found.get(PEER)
    headers = ["", "factors s", "scores s", "together s", "summed query s", "peak GiB", "Spearman with the peer"]
    lines = ["| " + " | ".join(headers) + " |", "| --- |" + " ---: |" * (len(headers) - 1)]
    for side, each in found.items():
        figures = each["figures"]
        if each["scores"] is None:
            continue
        cells = []
        for names in (("factors",), ("scores",), ("factors", "scores"), ("aggregate",), ("peak",)):
            if not all(name in figures for name in names):
                cells.append("")
                continue
            value = sum(figures[name] for name in names)
            base = sum(peer["figures"].get(name, 0.0) for name in names) if peer else 0.0
            cells.append(f"{value:.3g}" + (f" ({value / base:.2f})" if base else ""))
        if peer is None or side == PEER:
            cells.append("")
        else:
            alike = spearman(each["scores"].T, peer["scores"].T)
            cells.append(f"{alike.nanmean():.3f}, least {alike[alike.isfinite()].min():.3f}")
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def compare_sentences(args: Namespace) -> None:
    """Run every side and print the table."""
    with tempfile.TemporaryDirectory() as folder:
        if args.model is None:
            say("classifier", "is fine-tuned")
            args.model = str(Path(folder, "model"))
            module = fine_tune(args, folder)
            module.model.save_pretrained(args.model)
            module.tokenizer.save_pretrained(args.model)
        sides = [side for side in SIDES if side != PEER or (there() and not args.skip_peer)]
        found = {side: measured(args, side, Path(folder)) for side in sides}
    plain = found["a plain epoch"]["figures"]["epoch"]
    print(f"{args.train} training sentences, {args.queries} queries, {args.threads} threads.", end=" ")
    print("In brackets: of kronfluence." if PEER in found else "kronfluence was left out.", end="\n\n")
    print(table(found))
    print(f"\nA plain epoch over the same sentences: {plain:.3g} s. All of them against one summed query:")
    for side, each in found.items():
        if seconds := each["figures"].get("aggregate"):
            print(f"- {side}: {seconds / plain:.2f} epochs")


def main() -> None:
    """Run the comparison that was asked for."""
    if "--what" in sys.argv[1:] and "digits" in sys.argv[1:]:
        from influence_digits import main as digits

        digits()
        return
    asked = parser("EK-FAC influence beside kronfluence's, on SST-2.")
    asked.add_argument("--what", choices=["sst2", "digits"], default="sst2", help="(default: %(default)s)")
    asked.add_argument("--model", help="a fine-tuned classifier (directory or checkpoint), in place of fine-tuning one")
    asked.add_argument("--train", type=int, default=2000, help="training sentences (default: %(default)s)")
    asked.add_argument("--queries", type=int, default=64, help="sentences of the dev split (default: %(default)s)")
    asked.add_argument("--batch-size", type=int, default=32, help="of both libraries (default: %(default)s)")
    asked.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: %(default)s)")
    asked.add_argument("--skip-peer", action="store_true", help="without kronfluence, which takes the longest by far")
    asked.add_argument("--side", choices=list(SIDES), help="run this side alone, in this process")
    asked.add_argument("--out", help="where a side writes what it found")
    args = asked.parse_args()
    if args.side is None:
        compare_sentences(args)
    else:
        run_side(args)


if __name__ == "__main__":
    main()
