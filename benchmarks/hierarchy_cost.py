"""What a tree of spans costs: the forward passes and the seconds of each method, for texts of several lengths.

    python benchmarks/hierarchy_cost.py
    python benchmarks/hierarchy_cost.py --encoder-folder MINILM

One text of T words at a time, made of generated reviews. The classifier is untrained, of MiniLM's size by default, or
around a pretrained encoder: what is asked depends on the weights in where a text is cut alone.

* forwards: texts that the model was given for the tree, erasure and its control included; of contextual decomposition
  four a span, for the states that it carries. Those of a language model come on top.
* seconds: on a CPU those of the processor, which other work on the machine does not change.
* × T: forwards as a multiple of T, and seconds as a multiple of those of T forward passes of the text alone, one after
  the other, in the same run.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sst2 import timed, where_run
from transformers import BertConfig, BertForMaskedLM

from lightning_interpret import (
    AgglomerativeContextualDecomposition,
    Hedge,
    MaskedLanguageModel,
    SamplingAndOcclusion,
    TextClassifier,
)
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.methods.hierarchy import HierarchicalMethod
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.modules.portable import config_values
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks.encode import encode

LABELS = ["negative", "positive"]


class Bench:
    """A classifier, a language model of its size, and texts of any length."""

    def __init__(self, args: Namespace) -> None:
        self.device, self.rounds = torch.device("cuda" if torch.cuda.is_available() else "cpu"), args.rounds
        reviews = ReviewCorpus(64, seed=args.seed)
        self.words = [word for i in range(64) for word in reviews[i].text.split() if word.isalpha()]
        size = {"hidden_size": args.width, "intermediate_size": 4 * args.width, "num_hidden_layers": args.blocks}
        size |= {"num_attention_heads": max(1, args.width // 32)}
        if args.encoder_folder:
            module = TextClassifier(args.encoder_folder, LABELS)
        else:
            like = small_encoder([" ".join(self.words)], LABELS)
            module = TextClassifier(config=config_values(like.config) | size, labels=LABELS, tokenizer=like.tokenizer)
        self.module = module.to(self.device).eval().requires_grad_(False)
        self.task = module.interpret_task()
        language = BertForMaskedLM(BertConfig(vocab_size=len(module.tokenizer), **size)).to(self.device)
        self.sampler = MaskedLanguageModel(language, module.tokenizer, steps=1)

    def methods(self, samples: int) -> dict[str, HierarchicalMethod]:
        """Return what is timed."""
        return {
            "hedge": Hedge(),
            "hedge, window=2": Hedge(window=2),
            "acd": AgglomerativeContextualDecomposition(),
            "occlusion": SamplingAndOcclusion(),
            f"soc, {samples} contexts": SamplingAndOcclusion(sampler=self.sampler, n_samples=samples),
        }

    @torch.no_grad()
    def once(self, batch: Any) -> None:
        """Run one forward pass."""
        self.task.logits(self.module, batch)

    def seconds(self, call: Callable[[], Any]) -> float:
        """Return the least seconds of some rounds."""
        return min(self.timed(call) for _ in range(self.rounds))

    def timed(self, call: Callable[[], Any]) -> float:
        """Return the seconds of one call."""
        if self.device.type != "cpu":
            return timed(call, self.device)[1]
        begin = time.process_time()
        call()
        return time.process_time() - begin


def costs(bench: Bench, size: int, samples: int, only: Sequence[str] = ()) -> list[list[str]]:
    """Return the rows of the table for a text of so many words."""
    batch = encode(bench.module.tokenizer, [" ".join(bench.words[:size])]).to(bench.device)
    bench.once(batch)
    alone = bench.seconds(lambda: [bench.once(batch) for _ in range(size)])
    rows = []
    for name, method in bench.methods(samples).items():
        if only and not any(word in name for word in only):
            continue
        tree = method(bench.module, batch, bench.task)[0]
        assert tree.nodes[0].end == size
        assert tree.forwards is not None
        took = bench.seconds(lambda method=method: method(bench.module, batch, bench.task))
        figures = [f"{tree.forwards:,}", f"{tree.forwards / size:.1f}", f"{took:.2f}", f"{took / alone:.1f}"]
        rows.append([str(size), name, *figures])
    return rows


def main() -> None:
    """Print the table."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--encoder-folder", help="a pretrained encoder (default: an untrained one)")
    parser.add_argument("--words", type=int, nargs="+", default=[10, 20], help="of a text (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=10, help="contexts of SOC (default: %(default)s)")
    parser.add_argument("--width", type=int, default=384, help="of an untrained encoder (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=6, help="of an untrained encoder (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="the least seconds of so many (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the processor (default: torch's)")
    parser.add_argument("--seed", type=int, default=0, help="of the generated reviews (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=(), help="words in the names of some methods")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    torch.manual_seed(args.seed)
    bench = Bench(args)
    print(f"{where_run(bench.device)}\n")
    rows = [row for size in args.words for row in costs(bench, size, args.samples, args.only)]
    print(table(["T", "method", "forwards", "× T", "seconds", "× T forwards"], rows))


if __name__ == "__main__":
    main()
