"""What joint methods give and cost on real texts: the kernel layer on TREC, turn-over dropout at wrong labels.

    python benchmarks/joint_data.py --what trec --data-folder DATA --encoder-folder MINILM
    python benchmarks/joint_data.py --what labels --data-folder DATA --encoder-folder MINILM --cache FOLDER

Every module is trained beside its plain twin (`PlainTwin`), on the same batches, which says what the method costs.

* trec: accuracy with the kernel layer and without it; for how many test questions the foremost landmark, the one of
  the largest relevance, has the label that is predicted, by the model's own coefficients and smoothed as `explain`
  shows them, and the nearest one, that of the largest kernel value; how many of the landmarks are foremost for some
  question. The encoder is fine-tuned.
* labels: NoisyAG-News (a fifth of the labels wrong, by people), and SST-2 with a tenth of the labels flipped. The AUC
  of each score for "the label is wrong", and the recall among the 10 and 20 % that it ranks highest; how often the
  parts of the network that have learnt an example, and that have not, are right of it. A perceptron is trained on
  features of the frozen encoder, which are computed once and are in no figure.

`--encoder` chooses the other way for either: `tuned`, or `frozen`.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from joint_fit import Loaders, Texts, features_of, fit, flipped_sentences, maker, noisy_news, some, trec
from label_errors import METHODS, disagreement, figures
from sst2 import timed, where_run
from torch import Tensor, nn

from lightning_interpret import (
    EkfacInfluence,
    KernelMixin,
    LandmarkRelevance,
    TurnOverDropoutInfluence,
    TurnOverDropoutMixin,
)
from lightning_interpret.methods.landmarks import READABLE

CPU = torch.device("cpu")
SETS = {"ag_news": noisy_news, "sst2": flipped_sentences}
TREC = ["abbreviation", "description", "entity", "human", "location", "number"]
NEWS, SENTIMENT = ["world", "sports", "business", "science"], ["negative", "positive"]


def mean_of(rows: list[dict[str, float]]) -> dict[str, str]:
    """Return each figure's mean over the seeds, with the standard deviation where there are several."""
    found = {}
    for name in rows[0]:
        values = torch.tensor([row[name] for row in rows], dtype=torch.float64)
        found[name] = f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(rows) > 1 else "")
    return found


def landmarks_said(module: Any, loader: Any) -> dict[str, float]:
    """Return what the landmarks say of the predictions, in percent: by exact relevance, smoothed, and by nearness."""
    shares: dict[str, list[bool]] = {"foremost": [], "smoothed": [], "nearest": []}
    count, task, places, errors = module.kernel.count, module.interpret_task(), set(), []
    for batch in loader:
        for name, method in {
            "foremost": LandmarkRelevance(k=count),
            "smoothed": LandmarkRelevance(k=count, smoothing=READABLE),
        }.items():
            for row in method(module, batch, task):
                first = row.like[0] if row.like else None
                shares[name].append(first is not None and first.gold == row.prediction)
                errors.append(abs(row.error))
                if name == "smoothed":
                    near = max((*row.like, *row.unlike), key=lambda each: each.similarity)
                    shares["nearest"].append(near.gold == row.prediction)
                    places |= {first.example_id} if first else set()
    labels = {each.label for each in module.kernel.landmarks}
    return {name: 100 * sum(each) / len(each) for name, each in shares.items()} | {
        "used": 100 * len(places) / count,
        "classes": float(len(labels)),
        "error": 100 * float(module.kernel.gram_error or 0),
        "conservation": max(errors),
    }


def run_trec(args: Namespace) -> None:
    """Print the kernel layer's figures beside the plain head's."""
    train, test = some(trec(Path(args.data_folder), "train"), args.examples), trec(Path(args.data_folder), "test")
    test, rows = some(test, args.test), []
    for seed in range(args.seeds):
        begin = time.perf_counter()
        make = maker(args, KernelMixin, TREC, kernel_landmarks=args.landmarks, kernel_seed=seed)
        module, _, logged = fit(args, make, train, test, seed)
        seconds = time.perf_counter() - begin
        own, plain = 100 * (logged["accuracy"] - logged["cost"]), 100 * logged["accuracy"]
        said = landmarks_said(module, Loaders(args, module)(test, shuffle=False))
        rows.append({"own": own, "plain": plain, **said, "seconds": seconds})
    found = mean_of(rows)
    print(f"\nTREC, {len(train.texts):,} training questions, {len(test.texts)} of the test split,")
    print(f"{args.encoder} encoder, {args.epochs} epochs, {args.landmarks} landmarks, means over {args.seeds} seeds\n")
    print("| | |\n| --- | ---: |")
    for name, what in {
        "plain": "accuracy %, plain head",
        "own": "accuracy %, kernel layer",
        "foremost": "foremost landmark has the prediction's label, the model's own coefficients, %",
        "smoothed": f"foremost landmark has it, smoothing {READABLE} (what `explain` shows), %",
        "nearest": "nearest landmark has it, %",
        "used": "landmarks that are foremost for some question, %",
        "classes": "classes among the landmarks",
        "error": "error of the kernel matrix, %",
        "seconds": "seconds of a seed, both trainings",
    }.items():
        print(f"| {what} | {found[name]} |")
    print(f"\nThe relevances miss a logit by {max(row['conservation'] for row in rows):.1e} at most.")


def scored(args: Namespace, joint: Any, twin: Any, train: Texts) -> Iterator[tuple[str, Tensor, float]]:
    """Yield the name of each score, the score of each training example, and its seconds."""
    task, loader = joint.interpret_task(), list(Loaders(args, joint)(train, shuffle=False))
    order = torch.cat([batch["example_id"] for batch in loader]).argsort()
    dropout = joint.turn_over_dropout

    @torch.no_grad()
    def losses(module: Any, unseen: bool = False) -> Tensor:
        parts = []
        for batch in loader:
            if unseen:
                with dropout.unseen(batch["example_id"]):
                    parts.append(task.losses(module, batch))
            else:
                parts.append(task.losses(module, batch))
        return torch.cat(parts)[order]

    def own(method: Any, module: Any) -> Tensor:
        fitted = method.fit(module, loader, task)
        ids, scores = fitted.self_influence()
        scalars.update({name: value for name, (value, _) in getattr(fitted, "scalars", dict)().items()})
        return scores[ids.argsort()]

    scalars: dict[str, float] = {}
    yield "turn-over dropout: unseen − seen loss", *timed(lambda: own(TurnOverDropoutInfluence(), joint), CPU)
    args.scalars.append(scalars)
    yield "turn-over dropout: unseen loss", *timed(lambda: losses(joint, unseen=True), CPU)
    yield "loss", *timed(lambda: losses(joint), CPU)
    yield "loss of the plain twin", *timed(lambda: losses(twin), CPU)
    ekfac = METHODS["EK-FAC, every layer"] if args.encoder == "frozen" else EkfacInfluence(layers="last")
    where = "every layer" if args.encoder == "frozen" else "last layer"
    yield f"self-influence of the plain twin, EK-FAC, {where}", *timed(lambda: own(ekfac, twin), CPU)
    features, classes = features_of(args, train), int(train.labels.max()) + 1
    near = [
        {"features": features[i : i + 256], "labels": train.labels[i : i + 256], "example_id": torch.arange(i, end)}
        for i in range(0, len(features), 256)
        for end in [min(i + 256, len(features))]
    ]
    head = nn.Linear(features.shape[1], classes)
    yield "kNN disagreement, k = 20", *timed(lambda: disagreement(head, near), CPU)


def run_labels(args: Namespace) -> None:
    """Print what finds wrong labels, for each set."""
    for name in args.sets:
        found: dict[str, list[dict[str, float]]] = {}
        accuracies, args.scalars = [], []
        for seed in range(args.seeds):
            train, test = SETS[name](Path(args.data_folder), seed)
            train, test = some(train, args.examples), some(test, args.test)
            labels = NEWS if name == "ag_news" else SENTIMENT
            for each in (train, test) if args.encoder == "frozen" else ():
                features_of(args, each)
            begin = time.perf_counter()
            make = maker(args, TurnOverDropoutMixin, labels, turn_over_rate=args.rate, turn_over_seed=seed)
            joint, twin, logged = fit(args, make, train, test, seed)
            seconds = time.perf_counter() - begin
            own, plain = 100 * (logged["accuracy"] - logged["cost"]), 100 * logged["accuracy"]
            accuracies.append({"own": own, "plain": plain, "cost": plain - own, "seconds": seconds})
            for score, values, spent in scored(args, joint, twin, train):
                row = dict(zip(("auc", "ten", "twenty"), figures(values, train.wrong), strict=True))
                found.setdefault(score, []).append(row | {"seconds": spent})
        wrong = float(train.wrong.float().mean())
        print(f"\n{name}: {len(train.texts):,} training examples, {wrong:.1%} of the labels wrong,")
        print(f"{args.encoder} encoder, {args.epochs} epochs, rate {args.rate}, means over {args.seeds} seeds\n")
        print("| score | AUC % | recall % at 10 % | at 20 % | seconds |\n| --- | ---: | ---: | ---: | ---: |")
        for score, rows in found.items():
            print(f"| {score} | " + " | ".join(mean_of(rows).values()) + " |")
        parts = mean_of([{key: 100 * value for key, value in each.items()} for each in args.scalars])
        said = mean_of(accuracies)
        print(
            f"\nRight of the labels as given: {parts['seen_accuracy']} % where an example was learnt (seen), ", end=""
        )
        print(f"{parts['unseen_accuracy']} % where it was not (unseen).")
        print(
            f"Right of {len(test.texts):,} true test labels: {said['own']} %, plain dropout {said['plain']} %:", end=" "
        )
        print(f"it costs {said['cost']} points. Both trainings took {said['seconds']} s a seed.", flush=True)


def main() -> None:
    """Print a table for each part."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=["trec", "labels"], default=["trec", "labels"])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="of labels (default: both)")
    parser.add_argument("--data-folder", required=True, help="holds trec/, ag_news/ and sst2/")
    parser.add_argument("--encoder-folder", required=True, help="a pretrained encoder as a transformers directory")
    parser.add_argument("--encoder", choices=["tuned", "frozen"], help="(default: tuned for trec, frozen for labels)")
    parser.add_argument("--cache", help="folder that keeps the frozen encoder's features for the next run")
    parser.add_argument("--seeds", type=int, default=3, help="modules to train (default: %(default)s)")
    parser.add_argument("--epochs", type=int, help="(default: 3 of a tuned encoder, 20 of a frozen one)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--examples", type=int, help="only so many training examples")
    parser.add_argument("--test", type=int, help="only so many test examples")
    parser.add_argument("--landmarks", type=int, default=100, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.5, help="of turn-over dropout (default: %(default)s)")
    given = parser.parse_args()
    print(f"On {where_run(CPU)}.")
    for part, run, encoder in (("trec", run_trec, "tuned"), ("labels", run_labels, "frozen")):
        if part in given.what:
            args = Namespace(**vars(given))
            args.encoder = given.encoder or encoder
            args.epochs = given.epochs or (3 if args.encoder == "tuned" else 20)
            run(args)


if __name__ == "__main__":
    main()
