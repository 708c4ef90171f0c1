"""Which score finds wrong labels that people made: self-influence by several methods, beside loss and neighbours.

Two real sets: NoisyAG-News (labels by a majority of three annotators, a fifth of them wrong) and IMDb (reviews whose
labels five workers checked). A pretrained encoder stays frozen and its mean-pooled features are computed once; a small
network is trained on them with the labels as given, and every score ranks the training examples without seeing the
truth. Printed: the AUC of each score for "the label is wrong", and which share of the wrong labels is among the 10 and
20 % of the examples that it ranks highest (recall).

    python benchmarks/label_errors.py --data-folder DATA --encoder-folder MINILM --cache FOLDER
"""

from __future__ import annotations

import gzip
import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from sst2 import timed, where_run
from torch import Tensor, nn

from lightning_interpret.functional.ranks import area_under_curve, recall_at
from lightning_interpret.methods.influence import EkfacInfluence, ExactInfluence, GradientSimilarity, InfluenceMethod
from lightning_interpret.methods.neighbors import NearestNeighbors
from lightning_interpret.tasks.classification import Classification

EPOCHS, HIDDEN, BATCH = 20, 64, 64
WEIGHT_DECAY = 1e-3
METHODS = {
    "exact, last layer": ExactInfluence(),
    "EK-FAC, every layer": EkfacInfluence(),
    "gradient norm": GradientSimilarity("dot"),
}


class Features(Classification):
    """Reads batches of ``features``, ``labels`` and ``example_id``."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return class scores ``(B, C)``."""
        return module(batch["features"])


def ag_news(folder: Path) -> tuple[list[str], Tensor, Tensor]:
    """Return texts, labels as given, and whether each is wrong."""
    with gzip.open(folder / "ag_news" / "train.tsv.gz", "rt", encoding="utf8") as file:
        rows = [line.rstrip("\n").split("\t") for line in file][1:]
    true, given = (torch.tensor([int(row[i]) for row in rows]) for i in (0, 1))
    return [row[2] for row in rows], given, given != true


def imdb(folder: Path) -> tuple[list[str], Tensor, Tensor]:
    """Return the same of IMDb; a flagged review that kept no label by majority is wrong, as its authors count."""
    with gzip.open(folder / "imdb_label_errors" / "reviews.jsonl.gz", "rt", encoding="utf8") as file:
        rows = [json.loads(line) for line in file]
    given = torch.tensor([int(row["given_label"] == "pos") for row in rows])
    wrong = torch.tensor([row["verdict"].startswith(("label error", "no majority")) for row in rows])
    return [row["text"] for row in rows], given, wrong


def encoded(texts: list[str], encoder: str, max_length: int, kept: Path | None) -> Tensor:
    """Return mean-pooled features of texts ``(n, d)``, from the cache where they are there."""
    if kept is not None and kept.exists():
        return torch.load(kept)
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(encoder), AutoModel.from_pretrained(encoder).eval()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.empty(len(texts), model.config.hidden_size)
    with torch.no_grad():
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            batch = tokenizer(
                [texts[i] for i in rows], truncation=True, max_length=max_length, padding=True, return_tensors="pt"
            )
            hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][:, :, None]
            found[rows] = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(found, kept)
    return found


def network(features: Tensor, labels: Tensor, seed: int) -> nn.Module:
    """Return a network trained on the labels as they are given."""
    classes, generator = int(labels.max()) + 1, torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(features.shape[1], HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, classes))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(labels), generator=generator).split(BATCH):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(features[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def scored(features: Tensor, labels: Tensor, seed: int) -> Iterator[tuple[str, Tensor, float]]:
    """Yield the name of each score, the score of each training example, and its seconds."""
    model, task, device = network(features, labels, seed), Features(), features.device
    batch = {"features": features, "labels": labels, "example_id": torch.arange(len(labels))}
    loader = [{name: values[i : i + 256] for name, values in batch.items()} for i in range(0, len(labels), 256)]
    with torch.no_grad():
        accuracy = float((model(features).argmax(dim=1) == labels).float().mean())
        print(
            f"Seed {seed}: the network gives {accuracy:.1%} of the training examples the label they have.", flush=True
        )
        yield "loss", *timed(lambda: nn.functional.cross_entropy(model(features), labels, reduction="none"), device)

    yield "kNN disagreement, k = 20", *timed(lambda: disagreement(model, loader), device)
    for name, method in METHODS.items():

        def own(method: InfluenceMethod = method) -> Tensor:
            ids, scores = method.fit(model, loader, task, weight_decay=WEIGHT_DECAY).self_influence()
            return scores[ids.argsort()]

        yield f"self-influence, {name}", *timed(own, device)


def disagreement(model: nn.Module, loader: list[Any]) -> Tensor:
    """Return the share of each example's neighbours that have another label, in the features that a network is given.

    In the network's own, a memorised example lies among those of its label.
    """
    near = NearestNeighbors(layer="0", k=20).fit(nn.Sequential(nn.Identity(), model), loader, Features())
    ids, shares = near.disagreement()
    return shares[ids.argsort()]


def figures(scores: Tensor, wrong: Tensor) -> list[float]:
    """Return AUC, and recall among the first 10 and 20 % of the examples, in percent."""
    shares = [100 * recall_at(scores.double(), wrong, share) for share in (0.1, 0.2)]
    return [100 * area_under_curve(scores.double(), wrong), *shares]


def main() -> None:
    """Print a table for each set."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-folder", required=True, help="holds ag_news/ and imdb_label_errors/")
    parser.add_argument("--encoder-folder", required=True, help="a pretrained encoder as a transformers directory")
    parser.add_argument("--cache", help="folder that keeps the encoder's features for the next run")
    parser.add_argument("--seeds", type=int, default=3, help="networks to train (default: %(default)s)")
    parser.add_argument("--examples", type=int, help="only so many of each set")
    args = parser.parse_args()
    print(f"On {where_run(torch.device('cpu'))}; means over {args.seeds} networks.")
    for name, (read, length) in {"ag_news": (ag_news, 128), "imdb_label_errors": (imdb, 256)}.items():
        texts, given, wrong = (part[: args.examples] for part in read(Path(args.data_folder)))
        kept = Path(args.cache, f"{name}_{len(texts)}.pt") if args.cache else None
        features = encoded(texts, args.encoder_folder, length, kept)
        found: dict[str, list[list[float]]] = {}
        for seed in range(args.seeds):
            for score, values, seconds in scored(features, given, seed):
                found.setdefault(score, []).append([*figures(values, wrong), seconds])
        print(f"\n{name}: {len(texts):,} examples, {float(wrong.float().mean()):.1%} of the labels wrong\n")
        print("| score | AUC % | recall % at 10 % | at 20 % | seconds |\n| --- | ---: | ---: | ---: | ---: |")
        for score, rows in found.items():
            means = torch.tensor(rows).mean(dim=0).tolist()
            print(f"| {score} | {means[0]:.1f} | {means[1]:.1f} | {means[2]:.1f} | {means[3]:.2f} |")


if __name__ == "__main__":
    main()
