"""Every method with default options, and those of other libraries: cost, attribution error, faithfulness; in one run.

    python benchmarks/faithfulness.py --data-folder DATA --model CHECKPOINT

On sentences of SST-2's dev split, in batches of 16, of the logit predicted.

* forwards-equivalent: seconds, as a multiple of those of one forward pass of the same batches, measured beside them.
* gradients, forwards: rows that the model was called with for each sentence, with and without a graph.
* error: |Σ scores − T| / max(|T|, 0.01), T what the scores are to sum to, by the method's own baseline (mostly PAD);
  a method without a T only ranks. Sampling error: the scores' standard errors, as a share of Σ|scores|.
* comprehensiveness, sufficiency: what the class predicted loses in probability without the highest tokens, and with
  them alone; mean over 1, 5, 10, 20 and 50 % of the tokens, absent ones are PAD. High is good of the first, low of the
  second; a random order stands beside them. Both are marginal effects: the error comes first.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peers import LXT, Embedded, Scores, peers
from sst2 import classifier, parser_of_examples, quantile, sentences, timed, where_run
from torch import Tensor

from lightning_interpret.functional.faithfulness import aopc, comprehensiveness, sufficiency
from lightning_interpret.methods import METHODS
from lightning_interpret.methods.case import TOKENS_A_PASS
from lightning_interpret.names import choose
from lightning_interpret.tasks.encode import encode

FLOOR, RANDOM_ORDERS = 0.01, 5
RANDOM = f"random order, mean of {RANDOM_ORDERS}"

#: Methods that are registered and do not apply to text.
EXCLUDED = {
    "odam": "a map of a detected box",
    "layer_cam": "a map of an image model's feature maps",
    "difference_map": "the difference of two such maps",
}


@dataclass
class Line:
    """What one method gave: seconds in all; of each sentence what was computed, its error and its faithfulness."""

    name: str
    seconds: float = 0.0
    forward_seconds: float = 0.0
    gradients: list[float] = field(default_factory=list)
    forwards: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    sampling_errors: list[float] = field(default_factory=list)
    comprehensiveness: list[float] = field(default_factory=list)
    sufficiency: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        """Return the figures of the table, None for what there is not."""

        def of(values: list[float], figure: Callable[[list[float]], float]) -> float | None:
            return figure(values) if values else None

        def mean(values: list[float]) -> float:
            return sum(values) / len(values)

        return {
            "seconds": self.seconds or None,
            "forwards-equivalent": self.seconds / self.forward_seconds if self.seconds else None,
            "gradients": of(self.gradients, mean),
            "forwards": of(self.forwards, mean),
            "error, median %": of(self.errors, lambda values: 100 * quantile(values, 0.5)),
            "error, p95 %": of(self.errors, lambda values: 100 * quantile(values, 0.95)),
            "sampling error, median %": of(self.sampling_errors, lambda values: 100 * quantile(values, 0.5)),
            "comprehensiveness": of(self.comprehensiveness, mean),
            "sufficiency": of(self.sufficiency, mean),
        }


class Bench:
    """The model and its batches: one call a method gives its line."""

    def __init__(self, module: Any, texts: list[str], device: torch.device) -> None:
        self.module, self.device = module.to(device).eval().requires_grad_(False), device
        self.task = module.interpret_task()
        self.task.references = self._encode(texts[:16])
        self.batches = [self._encode(texts[i : i + 16]) for i in range(0, len(texts), 16)]
        self.warm_up = self._encode(texts[:1])  # what is done once: the trial of the layer, caches, imports
        self.target = [
            self._logits(batch["input_ids"], batch["attention_mask"]).argmax(dim=1) for batch in self.batches
        ]

    def _encode(self, texts: list[str]) -> Any:
        return encode(self.module.tokenizer, texts, max_length=64).to(self.device)

    @torch.no_grad()
    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.module.model(input_ids=ids, attention_mask=mask).logits

    def ours(self, name: str) -> Line:
        """Return the line of a method of this package.

        Raises:
            ValueError: If its scores are not for the tokens.
        """
        line, method = Line(name), METHODS[name]()
        method(self.module, self.warm_up, self.task)
        for number, batch in enumerate(self.batches):
            record = self._timed(line, batch, lambda b=batch: method(self.module, b, self.task))
            if record.scores.shape != batch["input_ids"].shape:
                raise ValueError(f"scores of shape {tuple(record.scores.shape)} are not for the tokens")
            line.gradients += record.gradients.tolist()
            line.forwards += record.forwards.tolist()
            line.sampling_errors += [] if record.sampling_error is None else record.sampling_error.tolist()
            line.errors += _errors(record)
            self._judge(line, number, record.scores.to(self.device))
        return line

    def peer(self, name: str, make: Callable[[], Any], scores: Scores, baseline: str) -> Line:
        """Return the line of another library's method."""
        line, model = Line(name), Embedded(make())
        for number, batch in [(-1, self.warm_up), *enumerate(self.batches)]:
            ids, mask = batch["input_ids"], batch["attention_mask"]
            counts, words = self._counts(batch), self.module.model.get_input_embeddings()
            x = words(ids)
            pad = self.module.tokenizer.pad_token_id
            absent = words(ids.where(~counts, pad)) if baseline == "pad" else torch.zeros_like(x)
            with torch.no_grad():
                logits = model(x, mask)
                target = logits.argmax(dim=1)
                moved = logits if baseline == "nothing" else logits - model(absent, mask)
                change = moved.gather(1, target[:, None]).squeeze(1).double()
            model.gradients = model.forwards = 0
            chunk = max(1, TOKENS_A_PASS[self.device.type] // ids.shape[1])
            call = lambda: scores(model, x.clone().requires_grad_(), absent, mask, target, chunk)  # noqa: B023, E731
            if number < 0:
                call()
                continue
            found = self._timed(line, batch, call).detach().sum(dim=2) * mask
            line.gradients.append(model.gradients / len(ids))
            line.forwards.append(model.forwards / len(ids))
            line.errors += ((found.double().sum(dim=1) - change).abs() / change.abs().clamp(min=FLOOR)).tolist()
            self._judge(line, number, found)
        return line

    def random(self) -> Line:
        """Return the line of a random order: the mean of several."""
        line, generator = Line(RANDOM), torch.Generator().manual_seed(0)
        for _ in range(RANDOM_ORDERS):
            for number, batch in enumerate(self.batches):
                self._judge(line, number, torch.rand(batch["input_ids"].shape, generator=generator).to(self.device))
        return line

    def _timed(self, line: Line, batch: Any, call: Callable[[], Any]) -> Any:
        """Return what a call returns; its seconds, and those of a forward pass before and after it, go to the line."""
        forward = lambda: self._logits(batch["input_ids"], batch["attention_mask"])  # noqa: E731
        before = [timed(forward, self.device)[1] for _ in range(2)]
        found, seconds = timed(call, self.device)
        line.seconds += seconds
        line.forward_seconds += min(*before, timed(forward, self.device)[1])
        return found

    def _counts(self, batch: Any) -> Tensor:
        units = self.task.units(batch)
        return ~(units.special | units.padding).to(self.device)

    def _judge(self, line: Line, number: int, scores: Tensor) -> None:
        batch, target = self.batches[number], self.target[number]
        ids, mask, counts = batch["input_ids"], batch["attention_mask"], self._counts(batch)
        pad = self.module.tokenizer.pad_token_id

        def kept(present: Tensor, rows: Tensor) -> Tensor:
            shares = self._logits(ids[rows].where(present, pad), mask[rows]).softmax(dim=1)
            return shares.gather(1, target[rows, None]).squeeze(1)

        line.comprehensiveness += aopc(comprehensiveness(scores, counts, kept)).tolist()
        line.sufficiency += aopc(sufficiency(scores, counts, kept)).tolist()


def _errors(record: Any) -> list[float]:
    """Return |Σ scores − T| / max(|T|, τ) of a record; of units that have a T each, the sums of their sizes."""
    if record.error is not None:
        return (record.error.abs() / record.attribution_target.abs().clamp(min=FLOOR)).tolist()
    if record.unit_errors is not None:
        targets = (record.scores - record.unit_errors).abs().sum(dim=1)
        return (record.unit_errors.abs().sum(dim=1) / targets.clamp(min=FLOOR)).tolist()
    return []


def calls(bench: Bench) -> dict[str, Callable[[], Line]]:
    """Return what makes the line of each method, by name."""
    found: dict[str, Callable[[], Line]] = {RANDOM: bench.random}
    found |= {name: partial(bench.ours, name) for name in sorted(METHODS) if name not in EXCLUDED}
    return found | {name: partial(bench.peer, name, *how) for name, *how in peers(bench.module.model)}


def row(name: str, figures: dict[str, Any]) -> str:
    """Return a row of the table."""
    cells = {head: "" if value is None else f"{value:.3g}" for head, value in figures.items()}
    if figures["seconds"] is not None and figures["error, median %"] is None:
        cells["error, median %"] = "ranks only"
    return f"| {name} | " + " | ".join(cells.values()) + " |"


def main() -> None:
    """Run all methods and print the table."""
    asked = parser_of_examples("Cost, attribution error and faithfulness of every method, on SST-2 sentences.", 64)
    asked.add_argument("--only", nargs="+", help="names of some methods, as the table has them")
    asked.add_argument("--json", help="a file to write the figures to")
    args = asked.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(classifier(args), sentences(args), device)
    found = calls(bench)
    names = [choose("--only", name, found) for name in args.only or found]
    where = f"{sum(map(len, bench.target))} sentences in batches of 16, {where_run(device)}"
    heads = list(Line("").figures())
    print(f"{where}.\n\n| | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}", flush=True)
    rows, said = {}, [f"{name} is left out: {why}." for name, why in EXCLUDED.items() if name in METHODS]
    for name in names:
        try:
            rows[name] = found[name]().figures()
            print(row(name, rows[name]), flush=True)
        except Exception as error:  # a method that is not for text says so; another library fails as it likes
            said.append(f"{name} does not run here: {type(error).__name__}: {error}")
    if LXT not in found:
        said.append(f"{LXT} is not compared: it is not installed, or the model is no BERT.")
    print("\n" + "\n".join(said))
    if args.json:
        written = {"where": where, "rows": rows, "said": said}
        Path(args.json).write_text(json.dumps(written, indent=1), encoding="utf8")


if __name__ == "__main__":
    main()
