"""Integrated gradients with default options beside Captum's: time, gradients, attribution error, distance of scores.

    python benchmarks/attribution.py --data-folder DATA --encoder-folder MINILM

On sentences of SST-2's dev split, in batches of 16 as they are drawn, both methods get the same batches, the same
baseline (PAD at the content; CLS, SEP and the mask stay) and the same target (the logit predicted). Captum takes the
quicker of two ways to batch its points: all in one pass, or as many in a pass as ours.

* error: |Σ scores − ΔF| / max(|ΔF|, 0.01), ΔF = F(x) − F(x').
* distance: Σ|scores − reference| / Σ|reference|, the reference by Gauss and Legendre's rule with 1,000 nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from captum.attr import LayerIntegratedGradients
from sst2 import classifier, parser_of_examples, quantile, sentences, timed, where_run
from torch import Tensor, nn

from lightning_interpret import IntegratedGradients
from lightning_interpret.methods.case import TOKENS_A_PASS
from lightning_interpret.tasks.encode import encode

CAPTUM_STEPS = (50, 20, 10)


@dataclass
class Column:
    """What one method gave: seconds in all, and of each example gradients, scores and their sum's target."""

    seconds: float = 0.0
    gradients: list[int] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    def add(self, scores: Tensor, reference: Tensor, moved: Tensor) -> None:
        """Add the errors and distances of a batch; ``moved`` is ΔF."""
        error = (scores.double().sum(dim=1) - moved).abs() / moved.abs().clamp(min=0.01)
        distance = (scores - reference).double().abs().sum(dim=1) / reference.double().abs().sum(dim=1)
        self.errors += error.tolist()
        self.distances += distance.tolist()


class Captum:
    """Captum's integrated gradients of a `transformers` classifier at its word embeddings."""

    def __init__(self, model: nn.Module, pad: int) -> None:
        self.model, self.pad, self.whole = model, pad, True
        self.peer = LayerIntegratedGradients(self._logits, model.get_input_embeddings())

    def _logits(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.model(input_ids=ids, attention_mask=mask).logits

    def __call__(self, batch: Any, special: Tensor, target: Tensor, steps: int) -> Tensor:
        """Return scores ``(B, T)``."""
        ids, mask = batch["input_ids"], batch["attention_mask"]
        absent = torch.where(special | (mask == 0), ids, self.pad)
        chunk = None if self.whole else max(len(ids), TOKENS_A_PASS[ids.device.type] // ids.shape[1])
        scores = self.peer.attribute(
            ids,
            baselines=absent,
            additional_forward_args=(mask,),
            target=target,
            n_steps=steps,
            internal_batch_size=chunk,
        )
        return scores.detach().sum(dim=-1)


def compare(module: Any, texts: list[str], device: torch.device, reference_steps: int) -> tuple[dict[str, Column], str]:
    """Return a column for each method, and how Captum was batched."""
    module = module.to(device).eval()
    task, method = module.interpret_task(), IntegratedGradients()
    reference = IntegratedGradients(
        steps=reference_steps, max_steps=reference_steps, rule="gauss_legendre", tolerance=None
    )
    captum = Captum(module.model, module.tokenizer.pad_token_id)
    columns = {"ours": Column()} | {f"Captum {steps}": Column() for steps in CAPTUM_STEPS}
    batches = [encode(module.tokenizer, texts[i : i + 16], max_length=64).to(device) for i in range(0, len(texts), 16)]
    for number, batch in enumerate(batches):
        if number == 0:  # what is done once: the trial of the layer, caches of the allocator
            method(module, batch, task)
        record, seconds = timed(lambda batch=batch: method(module, batch, task), device)
        columns["ours"].seconds += seconds
        columns["ours"].gradients += record.gradients.tolist()
        target = torch.tensor([module.labels.index(name) for name in record.target_name], device=device)
        special = record.units.special.to(device)
        if number == 0:
            ways = {}
            for captum.whole in (False, True, False, True):  # the first two warm up
                ways[captum.whole] = timed(lambda b=batch, s=special, t=target: captum(b, s, t, 50), device)[1]
            captum.whole = ways[True] < ways[False]
        found = {"ours": record.scores}
        for steps in CAPTUM_STEPS:
            call = lambda b=batch, s=special, t=target, n=steps: captum(b, s, t, n)  # noqa: E731
            scores, seconds = timed(call, device)
            found[f"Captum {steps}"] = scores.cpu()
            columns[f"Captum {steps}"].seconds += seconds
            columns[f"Captum {steps}"].gradients += [steps] * len(target)
        expected, moved = reference(module, batch, task).scores, record.target - record.baseline_target
        for name, scores in found.items():
            columns[name].add(scores, expected, moved)
    return columns, "all points in one pass" if captum.whole else "as many points in a pass as ours"


def table(columns: dict[str, Column]) -> str:
    """Return the table of the comparison, with each figure's ratio to Captum's at 50 steps in brackets."""
    rows = {
        "seconds": lambda column: column.seconds,
        "gradients, mean": lambda column: sum(column.gradients) / len(column.gradients),
        "error, median %": lambda column: 100 * quantile(column.errors, 0.5),
        "error, p95 %": lambda column: 100 * quantile(column.errors, 0.95),
        "distance, median %": lambda column: 100 * quantile(column.distances, 0.5),
        "distance, p95 %": lambda column: 100 * quantile(column.distances, 0.95),
    }
    lines = ["| | " + " | ".join(columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for name, figure in rows.items():
        base = figure(columns["Captum 50"])
        cells = [f"{figure(column):.3g} ({figure(column) / max(base, 1e-12):.2f})" for column in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and print its table."""
    asked = parser_of_examples(
        "Integrated gradients with default options beside Captum's, on SST-2 dev sentences.", 112
    )
    asked.add_argument("--reference-steps", type=int, default=1000, help="nodes of the reference (default: 1000)")
    args = asked.parse_args()
    module, texts = classifier(args), sentences(args)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    columns, way = compare(module, texts, device, args.reference_steps)
    print(f"{len(texts)} sentences in batches of 16, {where_run(device)}; Captum: {way}. In brackets: of Captum 50.\n")
    print(table(columns))


if __name__ == "__main__":
    main()
