"""Integrated gradients of every token that a model writes: ours, Captum's and Inseq's, at the same attribution error.

    pip install captum inseq==0.7.1
    OMP_NUM_THREADS=1 python benchmarks/generation.py --model gpt2 --output gpt2.json
    OMP_NUM_THREADS=1 python benchmarks/generation.py --model bart --rows DATA/multi30k_en_de/train.tsv.gz

A batch of prompts of 12 to 40 words, with the tokens that a small model with random weights writes to each; with
``--rows`` the model is trained first, on a file of texts and what is to be written to them, and the prompts are rows
that it has not seen. Nothing is downloaded. All three explain the log-probability of each token from one baseline,
"<unk>" in the place of every word read. The peers get the fewest steps of ``STEPS`` at which their error is at most
ours, all with Gauss and Legendre's rule, or the most where none does; and besides as many steps as ours.

* error: |Σ scores − ΔF| / max(|ΔF|, 0.01), ΔF = F(x) − F(x'), the mean over tokens.
* apart: the largest difference of a score from ours at the same rule and steps, over tokens that a peer reads as they
  are (Inseq gives no position ids, so that learned positions are others in a text that is padded at the left).
* seconds: the median of the runs, after one to warm up; and of the processor, which others on the machine move less.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from generation_models import MODELS, UNK, Prompts, learned, padded, prompts
from generation_peers import PEERS, Found
from torch import Tensor

from lightning_interpret import CausalGeneration, IntegratedGradients, Seq2SeqGeneration
from lightning_interpret.tasks import Task

STEPS = (4, 6, 8, 10, 12, 14, 16, 20, 25, 30, 40, 50, 75, 100, 150, 200)

#: Below this an error is that of single precision, which no number of steps mends.
ROUNDED = 1e-6


def encoded(of: Prompts) -> tuple[Task, dict[str, Tensor]]:
    """Return the task, and the prompts and their outputs as a batch that is padded at the right."""
    task = (Seq2SeqGeneration if of.encoder_decoder else CausalGeneration)(of.tokenizer)
    pairs = list(zip(of.prompts, of.outputs, strict=True))
    read = [prompt if of.encoder_decoder else [*prompt, *output] for prompt, output in pairs]
    labels = [output if of.encoder_decoder else [-100] * len(prompt) + output for prompt, output in pairs]
    return task, {
        "input_ids": padded(read, UNK),
        "attention_mask": padded([[1] * len(each) for each in read], 0),
        "labels": padded(labels, -100),
    }


def by_token(record: Any, of: Prompts) -> Found:
    """Return the scores of a record as the peers have them, by row and place."""
    keys = [(row, place) for row, output in enumerate(of.outputs) for place in range(len(output))]
    return {key: record.scores[i][~record.units.padding[i]] for i, key in enumerate(keys)}


def error(found: Found, moved: dict[tuple[int, int], float]) -> float:
    """Return the mean relative attribution error."""
    missed = [abs(float(found[key].double().sum()) - each) / max(abs(each), 0.01) for key, each in moved.items()]
    return sum(missed) / max(len(missed), 1)


def timed(call: Callable[[], Any], runs: int) -> tuple[Any, dict[str, float]]:
    """Return what a call returns, and its median seconds, by the clock and of the processor."""
    call()
    clock, used = [], []
    for _ in range(runs):
        begin = time.perf_counter(), time.process_time()
        found = call()
        clock.append(time.perf_counter() - begin[0])
        used.append(time.process_time() - begin[1])
    return found, {"seconds": median(clock), "processor seconds": median(used)}


def compare(of: Prompts, names: list[str], runs: int) -> dict[str, dict[str, Any]]:
    """Return a row of figures for each method and setting; of a peer that cannot be asked, why."""
    task, batch = encoded(of)

    def ours(**options: Any) -> Any:
        method = IntegratedGradients(baseline="unk", **options)
        return method(of.model, batch, task, which="gold", output="log_prob")

    record, times = timed(ours, runs)
    found = by_token(record, of)
    moved = dict(zip(found, (record.target - record.baseline_target).tolist(), strict=True))
    own = error(found, moved)
    rows: dict[str, dict[str, Any]] = {
        "ours": times | {"steps": float(record.gradients.double().mean()), "error": own, "apart": None}
    }
    fixed: dict[int, Found] = {}

    def at(steps: int) -> Found:
        if steps not in fixed:
            fixed[steps] = by_token(ours(rule="gauss_legendre", steps=steps, tolerance=None), of)
        return fixed[steps]

    # the same rule and steps give the same scores, as "apart" says: the steps that a peer needs are found with ours
    enough = next((steps for steps in STEPS if error(at(steps), moved) <= max(own, ROUNDED)), None)
    for peer in PEERS:
        if peer.name not in names:
            continue
        why = peer.missing(of)
        if why is not None:
            rows[peer.name] = {"left out": why}
            continue
        asked = peer(of)
        keys = [key for key in moved if asked.read_as_it_is(key[0])]
        for name, steps in (
            (f"{peer.name}, {'most steps' if enough is None else 'same error'}", enough or STEPS[-1]),
            (f"{peer.name}, same steps", round(rows["ours"]["steps"])),
        ):
            got, times = timed(lambda asked=asked, steps=steps: asked.scores(steps), runs)
            rows[name] = times | {
                "steps": float(steps),
                "error": error(got, {key: moved[key] for key in keys}),
                "apart": max(float((got[key] - at(steps)[key]).abs().max()) for key in keys),
            }
    return rows


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of the comparison; in brackets how many times ours a time is."""
    lines = ["| | steps | error | apart | seconds | processor seconds |", "| --- |" + " ---: |" * 5]
    for name, row in rows.items():
        if "left out" in row:
            continue
        apart = "" if row["apart"] is None else f"{row['apart']:.1e}"
        cells = [f"{row['steps']:.3g}", f"{row['error']:.1e}", apart]
        times = ("seconds", "processor seconds")
        cells += [f"{row[figure]:.3g} ({row[figure] / rows['ours'][figure]:.2f})" for figure in times]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run the comparison and print its table."""
    asked = argparse.ArgumentParser(description="Integrated gradients of all output tokens beside Captum and Inseq.")
    asked.add_argument("--model", choices=MODELS, default="gpt2", help="kind of model (default: gpt2)")
    asked.add_argument("--batch", type=int, default=8, help="prompts (default: 8)")
    asked.add_argument("--tokens", type=int, default=16, help="output tokens of each (default: 16)")
    asked.add_argument("--runs", type=int, default=3, help="runs that are timed (default: 3)")
    asked.add_argument(
        "--peers", nargs="*", default=[peer.name for peer in PEERS], choices=[peer.name for peer in PEERS]
    )
    asked.add_argument("--quick", action="store_true", help="a tiny model and one run: whether it runs, no figures")
    asked.add_argument("--rows", type=Path, help="tab-separated texts and what is to be written to them, to train on")
    asked.add_argument("--train-steps", type=int, default=1500, help="batches of 32 rows (default: 1500)")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--output", help="file for the figures, JSON")
    args = asked.parse_args()
    small = {"vocabulary": 400, "width": 32, "blocks": 2, "shortest": 4, "longest": 8} if args.quick else {}
    made = partial(learned, file=args.rows, steps=args.train_steps) if args.rows else prompts
    of = made(args.model, batch=args.batch, tokens=args.tokens, seed=args.seed, **small)
    rows = compare(of, args.peers, 1 if args.quick else args.runs)
    what = f"{args.model}, {'trained' if args.rows else 'random weights'}"
    print(f"{what}: {args.batch} prompts, {args.tokens} output tokens each, {torch.get_num_threads()} threads.\n")
    print(table(rows))
    for name, row in rows.items():
        if "left out" in row:
            print(f"{name} is left out: {row['left out']}.")
    if args.output:
        setting = vars(args) | {
            "rows": str(args.rows or ""),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        Path(args.output).write_text(json.dumps({"setting": setting, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
