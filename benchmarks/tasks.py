"""Tasks beyond classification on real data: entities, answers, translations and pairs.

    python benchmarks/tasks.py --part wnut --data DATA --encoder-folder MINILM --output OUT
"""

from __future__ import annotations

import importlib
import json
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from sst2 import where_run

PARTS = {"wnut": "task_entities", "xquad": "task_answers", "multi30k": "task_translation", "esnli": "task_pairs"}
EPOCHS = {"wnut": 2, "xquad": 2, "multi30k": 12, "esnli": 1}


def parsed() -> Namespace:
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--data", help="folder that holds wnut17/, xquad_en/, multi30k_en_de/ and esnli/")
    parser.add_argument("--output", required=True, help="folder of the run, its checkpoint and its figures")
    parser.add_argument("--encoder-folder", help="a pretrained MiniLM as a transformers directory, to fine-tune")
    parser.add_argument("--trained", help="checkpoint of an earlier run, which is read in place of training")
    parser.add_argument("--quick", action="store_true", help="tiny models on generated rows, in seconds")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--batches", type=int, default=0, help="training batches of an epoch (default: all)")
    parser.add_argument("--validate-every", type=int, default=1, help="epochs (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--probes", type=int, nargs="+")
    parser.add_argument("--erased", type=int, default=8)
    parser.add_argument("--longest", type=int, default=10**9)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    args.epochs = args.epochs or EPOCHS[args.part]
    return args


def main() -> None:
    args = parsed()
    torch.set_num_threads(args.threads)
    Path(args.output).mkdir(parents=True, exist_ok=True)
    part = importlib.import_module(PARTS[args.part])
    figures = part.run(args, Path(args.data or args.output))
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
