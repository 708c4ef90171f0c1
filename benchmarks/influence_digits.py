"""Influence on digits beside training on random halves: the linear datamodeling score of each method, and seconds."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from functools import partial
from typing import Any

import torch
from influence_peer import Peer, there
from sklearn.datasets import load_digits
from sst2 import timed
from torch import Tensor, nn

from lightning_interpret import EkfacInfluence, ExactInfluence, GradientSimilarity
from lightning_interpret.functional.influence.datamodels import linear_datamodeling_score, subsets
from lightning_interpret.functional.influence.ensembles import MinusLoss, SubsetTrainer, perceptron
from lightning_interpret.functional.influence.retraining import retrain
from lightning_interpret.tasks import Task
from lightning_interpret.tasks.classification import Classification

CPU, WEIGHT_DECAY = torch.device("cpu"), 1e-3
METHODS = {
    "exact, every layer": ExactInfluence(layers="all"),
    "exact, last layer": ExactInfluence(),
    "EK-FAC": EkfacInfluence(),
    "EK-FAC, all classes": EkfacInfluence(label_samples="all"),
    "K-FAC": EkfacInfluence(corrected=False),
    "gradient dot product": GradientSimilarity("dot"),
    "gradient cosine": GradientSimilarity(),
}


class Digits(Classification):
    """Reads batches of ``pixels``, ``labels`` and ``example_id``."""

    def logits(self, module: nn.Module, batch: Any) -> Tensor:
        """Return the class scores."""
        return module(batch["pixels"])

    layer = units = baseline = Task.texts  # of no use here

    def check(self, *args: Any) -> None:
        """Accept everything."""


def main() -> None:
    """Run the comparison and print its table."""
    asked = ArgumentParser(description=__doc__)
    asked.add_argument("--what", choices=["digits"], default="digits")
    asked.add_argument("--subsets", type=int, default=100, help="halves to train on (default: %(default)s)")
    asked.add_argument("--seeds", type=int, default=3, help="trainings of each half (default: %(default)s)")
    asked.add_argument("--workers", type=int, default=1, help="processes that train (default: %(default)s)")
    asked.add_argument("--folder", help="keeps finished trainings, to go on with")
    asked.add_argument("--skip-peer", action="store_true", help="without kronfluence")
    args = asked.parse_args()
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    pixels, labels = torch.tensor(data.data / 16).float()[order], torch.tensor(data.target)[order]
    batch = {"pixels": pixels, "labels": labels, "example_id": torch.arange(len(labels))}
    train, queries = (
        {name: values[part] for name, values in batch.items()} for part in (slice(1000), slice(1000, 1200))
    )
    trainer = SubsetTrainer(partial(perceptron, 64, 32, 10), train["pixels"], train["labels"])
    masks = subsets(1000, 0.5, args.subsets)
    report = lambda done, of: print(f"\rtrained {done} of {of}", end="", file=sys.stderr, flush=True)  # noqa: E731
    outcome = MinusLoss(queries["pixels"], queries["labels"])
    options = {"seeds": range(args.seeds), "workers": args.workers, "folder": args.folder, "progress": report}
    truth, seconds = timed(lambda: retrain(trainer, masks, outcome, **options), CPU)
    print(f"\n{truth.trained} trainings in {seconds:.0f} s", file=sys.stderr)
    module = trainer(torch.ones(1000, dtype=torch.bool), 0)
    loader = [{name: values[i : i + 250] for name, values in train.items()} for i in range(0, 1000, 250)]
    print(f"{args.subsets} halves of 1,000 digits × {args.seeds} seeds, 200 queries, weight decay {WEIGHT_DECAY}.\n")
    print("| | LDS | ± (queries) | factors s | scores s |\n| --- | ---: | ---: | ---: | ---: |")
    for name, method in METHODS.items():
        fit = partial(method.fit, module, loader, Digits(), weight_decay=WEIGHT_DECAY)
        fitted, factors = timed(fit, CPU)
        (_, scores), scoring = timed(lambda fitted=fitted: fitted.matrix(queries), CPU)
        line(name, scores, masks, truth.outcomes, factors, scoring)
    if args.skip_peer or not there():
        print("\nkronfluence was left out" + ("." if there() else ": it is not installed."))
        return
    peer = Peer(module, lambda model, batch: model(batch["pixels"]), train, 250, WEIGHT_DECAY)
    _, factors = timed(peer.factors, CPU)
    scores, scoring = timed(lambda: peer.scores(queries), CPU)
    line("kronfluence EK-FAC", scores, masks, truth.outcomes, factors, scoring)


def line(name: str, scores: Tensor, masks: Tensor, outcomes: Tensor, factors: float, scoring: float) -> None:
    """Print one row."""
    found = linear_datamodeling_score(scores, masks, outcomes)
    found = found[found.isfinite()]
    error = found.std() / len(found) ** 0.5
    print(f"| {name} | {found.mean():.3f} | {error:.3f} | {factors:.2f} | {scoring:.2f} |", flush=True)
