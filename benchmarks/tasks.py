"""Tasks beyond one class a text, on real data: entities, answers, translations, and pairs of texts.

    python benchmarks/tasks.py --part wnut --data DATA --encoder-folder MINILM --output OUT
    python benchmarks/tasks.py --part multi30k --data DATA --output OUT
    python benchmarks/tasks.py --part esnli --quick --output OUT

Each part is a short run through `Trainer` with a `SaliencyMonitor` (`tensorboard --logdir OUT/runs` shows it), and then
integrated gradients of the predictions on the first validation examples. They are examples of what the library does
with a task; the models are far from what more data and time would make of them.

* wnut: WNUT-17, `TokenTagger`; xquad: XQuAD, whose paragraphs are split for it, `QuestionAnswerer`; multi30k: English
  to German, a small encoder-decoder from scratch, `TextGenerator`; esnli: pairs of e-SNLI, `TextClassifier`.
* relative attribution error: what the scores of a target miss of what they are to sum to, with its own targets a row.
* erasure: what the probability of the target loses without the highest words (comprehensiveness), and with these alone
  (sufficiency); means over 10, 20 and 50 % of the words, beside random orders of the same words.
* evidence: the share of the scores' size in a place, of words (special tokens are told apart).

The figures are printed and written to `OUT/<part>.json`.
"""

from __future__ import annotations

import importlib
import json
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything
from sst2 import where_run

PARTS = {"wnut": "task_entities", "xquad": "task_answers", "multi30k": "task_translation", "esnli": "task_pairs"}
NUMBERS = {
    "epochs": (2, "of training"),
    "batches": (0, "training batches of an epoch, 0 for all"),
    "val-batches": (0, "validation batches of an epoch, 0 for all"),
    "batch-size": (16, "of training and of what is explained in one call"),
    "examples": (100, "validation examples that are explained, in whole batches"),
    "erased": (4, "targets of each batch for erasure"),
    "frozen": (0, "first blocks of the pretrained encoder that stay as they are, with its embeddings"),
    "longest": (10**6, "characters of a paragraph of XQuAD; longer ones are left out"),
    "seed": (0, "of the weights that are new and of the training"),
    "threads": (torch.get_num_threads(), "of the processor"),
}


def main() -> None:
    """Print the figures of a part and write them."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--data", help="folder that holds wnut17/, xquad_en/, multi30k_en_de/ and esnli/")
    parser.add_argument("--output", required=True, help="folder of the log, the checkpoint and the figures")
    parser.add_argument("--encoder-folder", help="a pretrained MiniLM as a transformers directory, to fine-tune")
    parser.add_argument("--trained", help="checkpoint of an earlier run, which is read in place of training")
    parser.add_argument("--learning-rate", type=float, help="(default: that of the part)")
    parser.add_argument("--probes", type=int, nargs="+", help="validation examples of the Monitor (default: 3, spread)")
    parser.add_argument("--quick", action="store_true", help="tiny models on generated rows, in seconds")
    for name, (default, meaning) in NUMBERS.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{meaning} (default: %(default)s)")
    args = parser.parse_args()
    _check(args)
    torch.set_num_threads(args.threads)
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    print(f"{args.part} on {where_run(torch.device('cpu'))}.")
    seed_everything(args.seed, verbose=False)  # before a model is built
    figures = importlib.import_module(PARTS[args.part]).run(args, output if args.quick else Path(args.data))
    for title, each in figures.items():
        print(f"\n| {title} | |\n| --- | ---: |")
        for name, value in each.items():
            print(f"| {name} | {f'{value:,}' if isinstance(value, int) else f'{value:.4g}'} |")
    given = {name: value for name, value in vars(args).items() if name not in ("data", "output", "encoder_folder")}
    written = {"options": given, "figures": _json(figures)}
    (output / f"{args.part}.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf8")


def _check(args: Namespace) -> None:
    """Raise for what a part cannot do without.

    Raises:
        SystemExit: If a folder is missing, or blocks are to be kept of an encoder that is from scratch.
    """
    if not args.quick and args.data is None:
        raise SystemExit("Give --data, the folder of the data sets, or --quick for generated rows.")
    if not args.quick and args.part != "multi30k" and args.encoder_folder is None:
        raise SystemExit("Give --encoder-folder, a pretrained encoder to fine-tune, or --quick for a tiny one.")
    if args.frozen and (args.quick or args.part == "multi30k"):
        raise SystemExit(f"--frozen {args.frozen} keeps blocks of a pretrained encoder: leave it out here.")


def _json(value: Any) -> Any:
    """Return figures without what JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _json(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    main()
