"""What each metric of trust costs, in forward passes; and erasure beside the forward passes that it needs, in one run.

    python benchmarks/trust.py
    python benchmarks/trust.py --data-folder DATA --encoder-folder MINILM

On one batch of sentences: of the generated reviews, or of SST-2's dev split. The classifier is untrained, of MiniLM's
size by default, or around a pretrained encoder: weights do not change what is asked.

* seconds: on a CPU those of the processor, which other work on the machine does not change.
* rows: texts that the model was given, for each text of the batch, without a control and with random orders.
* forwards: seconds, as a multiple of those of one forward pass of the same batch.
* erasure: seconds of comprehensiveness over the bins, as a multiple of those of the same forward passes of the model
  alone: as many calls, of the same texts at the same lengths.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any

import torch
from sst2 import data_in, timed, where_run
from torch import Tensor, nn

from lightning_interpret import Perturbed, TextClassifier, metrics
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.functional.erasure import BINS
from lightning_interpret.functional.randomisation import reinitialised
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.modules.portable import config_values
from lightning_interpret.tasks.encode import encode

LABELS = ["negative", "positive"]
METHOD = "gradient_times_input"
FEW = 10  # tokens of a text whose every order is tried


class Shapes:
    """What a model is given while the block lasts: the ids and the mask of each call."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __enter__(self) -> list[tuple[Tensor, Tensor]]:
        met: list[tuple[Tensor, Tensor]] = []

        def note(_: nn.Module, __: Any, given: dict[str, Any]) -> None:
            met.append((given["input_ids"], given["attention_mask"]))

        self.hook = self.model.register_forward_pre_hook(note, with_kwargs=True)
        return met

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


class Bench:
    """A classifier and one batch."""

    def __init__(self, args: Namespace) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        texts = sentences(args)
        if args.encoder_folder:
            module = TextClassifier(args.encoder_folder, LABELS)
        else:
            like = small_encoder(texts, LABELS)
            size = {"hidden_size": args.width, "intermediate_size": 4 * args.width, "num_hidden_layers": args.blocks}
            size |= {"num_attention_heads": max(1, args.width // 32)}
            module = TextClassifier(config=config_values(like.config) | size, labels=LABELS, tokenizer=like.tokenizer)
        self.module, self.rounds = module.to(self.device).eval().requires_grad_(False), args.rounds
        self.task = module.interpret_task()
        self.batch = encode(module.tokenizer, texts, max_length=64).to(self.device)
        self.size = len(texts)

    @torch.no_grad()
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the logits, as a plain call of the model gives them."""
        return self.module.model(input_ids=ids, attention_mask=mask).logits

    def seconds(self, *calls: Callable[[], Any]) -> list[float]:
        """Return the least seconds of each call over some rounds, in which they take turns."""
        for call in calls:
            call()  # what is done once
        turns = [[self.timed(call) for call in calls] for _ in range(self.rounds)]
        return [min(each) for each in zip(*turns, strict=True)]

    def timed(self, call: Callable[[], Any]) -> float:
        """Return the seconds of one call."""
        if self.device.type != "cpu":
            return timed(call, self.device)[1]
        begin = time.process_time()
        call()
        return time.process_time() - begin

    def cost(self, call: Callable[[], Any]) -> tuple[float, float]:
        """Return the rows that a call gives the model for each text, and its seconds in forward passes of the batch."""
        with Shapes(self.module.model) as met:
            call()
        once = lambda: self.forward(self.batch["input_ids"], self.batch["attention_mask"])  # noqa: E731
        took, one = self.seconds(call, once)
        return sum(len(ids) for ids, _ in met) / self.size, took / one

    def erasure(self, orders: int) -> tuple[int, float]:
        """Return how many rows comprehensiveness needs, and its seconds in those of the same calls of the model."""
        model, scores = Perturbed(self.module, self.batch, self.task), self.scores()
        metric = metrics.Comprehensiveness(bins=BINS, control_orders=orders)
        call = lambda: metric.update(scores, model.counts, model.kept)  # noqa: E731
        with Shapes(self.module.model) as met:
            call()

        def alone() -> None:
            for ids, mask in met:
                self.forward(ids, mask)

        took, needed = self.seconds(call, alone)
        return sum(len(ids) for ids, _ in met), took / needed

    def scores(self) -> Tensor:
        """Return the scores that are measured."""
        return Perturbed(self.module, self.batch, self.task).scores(METHOD)


def asked(bench: Bench) -> dict[str, Callable[[int], Callable[[], Any]]]:
    """Return for each metric what makes one update of it, by the number of random orders."""
    model, scores = Perturbed(bench.module, bench.batch, bench.task), bench.scores()
    logit, initial = Perturbed(bench.module, bench.batch, bench.task, output="logit"), reinitialised(bench.module)
    counts, other = model.counts, scores.flip(0)
    few = counts & (counts.cumsum(dim=1) <= FEW)
    marginal: dict[str, tuple[Callable[..., Any], Any]] = {
        "comprehensiveness, 5 bins": (lambda **o: metrics.Comprehensiveness(bins=BINS, **o), model.kept),
        "sufficiency, 5 bins": (lambda **o: metrics.Sufficiency(bins=BINS, **o), model.kept),
        "AOPC": (metrics.AreaOverPerturbationCurve, model.kept),
        f"NAOPC of {FEW} tokens a text": (metrics.NormalizedAreaOverPerturbationCurve, model.kept),
        "log odds, 20 %": (metrics.LogOdds, model.kept),
        "leave-one-out correlation": (metrics.LeaveOneOutCorrelation, model.kept),
        "infidelity, 16 sets": (metrics.Infidelity, logit.kept),
        "soft comprehensiveness, 8 draws": (metrics.SoftComprehensiveness, model.softly),
        "soft sufficiency, 8 draws": (metrics.SoftSufficiency, model.softly),
    }
    found: dict[str, Callable[[int], Callable[[], Any]]] = {}
    for name, (make, answer) in marginal.items():
        those = few if name.startswith("NAOPC") else counts
        found[name] = lambda orders, make=make, answer=answer, those=those: (
            lambda: make(control_orders=orders).update(scores, those, answer)
        )
    alone: dict[str, Callable[[], Any]] = {
        f"an explanation: {METHOD}": lambda: model.scores(METHOD),
        "opening (Perturbed)": lambda: Perturbed(bench.module, bench.batch, bench.task),
        "max-sensitivity, 10 samples": lambda: metrics.MaxSensitivity().update(
            model.explainer(METHOD), model.inputs, counts
        ),
        "randomisation, weights drawn anew": lambda: metrics.Randomisation().update(
            scores, model.scores(METHOD, weights=initial.values), counts
        ),
        "agreement, Kendall": lambda: metrics.MethodAgreement().update(scores, other, counts),
        "complexity, Gini": lambda: metrics.Complexity().update(scores, counts),
        "attribution error": lambda: metrics.AttributionError().update(scores, model.target),
        "drift": lambda: metrics.ExplanationDrift().update(scores, other),
    }
    return found | {name: (lambda orders, call=call: call if orders == 0 else None) for name, call in alone.items()}


def sentences(args: Namespace) -> list[str]:
    """Return the sentences of the batch."""
    if not args.data_folder:
        reviews = ReviewCorpus(args.examples, seed=args.seed)
        return [reviews[i].text for i in range(args.examples)]
    data = data_in(args.data_folder)
    data.setup("validate")
    return [row.text for row in data.rows["val"][: args.examples]]


def main() -> None:
    """Print both tables."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-folder", help="holds sst2/ (default: generated reviews)")
    parser.add_argument("--encoder-folder", help="a pretrained encoder (default: an untrained one)")
    parser.add_argument("--width", type=int, default=384, help="of an untrained encoder (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=6, help="of an untrained encoder (default: %(default)s)")
    parser.add_argument("--examples", type=int, default=16, help="texts in the batch (default: %(default)s)")
    parser.add_argument("--orders", type=int, default=5, help="random orders of a control (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="the least seconds of so many (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the processor (default: torch's)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated reviews (default: %(default)s)")
    parser.add_argument("--only", nargs="+", help="words in the names of some metrics")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    bench = Bench(args)
    long = bench.batch["attention_mask"].sum(dim=1).tolist()
    print(f"{bench.size} texts of {min(long)} to {max(long)} tokens in one batch, {where_run(bench.device)}.\n")
    print(f"| | rows a text | forwards | rows with {args.orders} random orders | forwards |\n| --- |{' ---: |' * 4}")
    for name, make in asked(bench).items():
        if args.only and not any(word in name for word in args.only):
            continue
        cells = []
        for call in (make(0), make(args.orders)):
            cells += ["", ""] if call is None else [f"{value:.1f}" for value in bench.cost(call)]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print("\n| erasure | rows | × of the same calls of the model alone |\n| --- | ---: | ---: |")
    for orders in (0, args.orders):
        rows, ratio = bench.erasure(orders)
        print(f"| comprehensiveness, {orders} random orders | {rows} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
