"""Jain and Wallace (2019) on SST, and the replies: BiLSTM and additive attention, trained and reported on.

    python benchmarks/attention_debate.py --data-folder DATA --encoder-folder MINILM

As theirs: lower-cased sentences of SST of more than five words, every word known, a BiLSTM of 128 a side, additive
attention (tanh, 128) that leaves out the first and the last token, a linear head; Adam with AMSGrad at 1e-3, weight
decay 1e-5, batches of 32, 8 epochs, of which that of the best AUC on dev is kept. Unlike theirs:

* word vectors. They had fastText's of Simple Wikipedia, whose numbers are of a size of about 0.3. Here it is the word
  embeddings of a pretrained encoder (of a word in pieces, their mean), of that size; without `--encoder-folder` they
  are random. The size matters: at 1 gradients and leave-one-out agree less with one another, at 0.05 more.
* punctuation stays; they took it out (`--without-punctuation`), which with these vectors costs AUC.
* the loss is the mean of a batch and not the sum, which leaves more to the weight decay.
* the test sentences are half of theirs.

* tau: attention with gradients, with leave-one-out, and these two with one another, over the test sentences.
* averaging: the same with a projection of each word in place of the BiLSTM, whose vectors do not know their neighbours.
* seeds, uniform, adversary: how far attention is apart over seeds; what a model is worth whose attention is uniform;
  one model trained to answer as the first with other attention (Wiegreffe and Pinter, 2019).
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from lightning_interpret import attention_report, compare_attention, train_adversary
from lightning_interpret.functional.ranks import area_under_curve
from lightning_interpret.report.markdown import table
from lightning_interpret.trust.attention_rows import PAIRS, pair_name

ARMS = ("lstm", "averaging", "seeds", "uniform", "adversary")
#: Size of the numbers in a word's vector.
SIZE = 0.3
#: Kendall's tau in the authors' output files, means over both classes.
THEIRS = {"lstm": (0.351, 0.291, 0.656), "averaging": (0.606, 0.623, None)}


def example() -> Any:
    """Return `examples/attention_debate.py` as a module: the model, its task and its data."""
    path = Path(__file__).parents[1] / "examples" / "attention_debate.py"
    spec = importlib.util.spec_from_file_location("attention_example", path)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


class Run:
    """The data, the vectors, and models trained on them."""

    def __init__(self, args: Namespace) -> None:
        self.args, self.example = args, example()
        sets = (self.example.sst(args.data_folder, split) for split in ("train_sentences", "dev", "test"))
        if args.without_punctuation:
            sets = (list(map(_plain, rows)) for rows in sets)
        self.train, self.dev, self.test = ([row for row in rows if len(row[0].split()) > 5] for rows in sets)
        self.test = self.test[: args.examples]
        self.tokenizer = self.example.word_level([text for text, _ in self.train], args.min_frequency)
        self.task = self.example.ReaderTask(self.tokenizer, labels=self.example.LABELS)
        self.vectors = None if args.encoder_folder is None else self._vectors(args.encoder_folder)
        self.scores: dict[str, tuple[float, float]] = {}

    def loader(self, rows: list, **options: Any) -> Any:
        """Return batches of 32."""
        return self.example.loader(rows, self.tokenizer, **options)

    def fresh(self, seed: int, **options: Any) -> Any:
        """Return a model that has not been trained."""
        seed_everything(seed, verbose=False)
        size = 300 if self.vectors is None else self.vectors.shape[1]
        return self.example.AttentiveReader(len(self.tokenizer), size, vectors=self.vectors, **options)

    def trained(self, name: str, seed: int = 0, **options: Any) -> Any:
        """Return a model at its best epoch, and keep its AUC and accuracy on the test sentences under a name."""
        module, begin = self.fresh(seed, **options), time.perf_counter()
        kept = None if self.args.models_folder is None else Path(self.args.models_folder, f"{name}.pt")
        if kept is not None and kept.exists():
            module.load_state_dict(torch.load(kept))
            self.score(name, module)
            return module
        with tempfile.TemporaryDirectory() as folder:
            best = ModelCheckpoint(folder, monitor="val_auc", mode="max", save_weights_only=True)
            quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
            trainer = Trainer(max_epochs=self.args.epochs, accelerator="cpu", callbacks=[best], **quiet)
            trainer.fit(module, self.loader(self.train, shuffle=True), self.loader(self.dev))
            module.load_state_dict(torch.load(best.best_model_path, weights_only=False)["state_dict"])
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            torch.save(module.state_dict(), kept)
        self.score(name, module)
        print(f"{name}: trained in {time.perf_counter() - begin:.0f} s, AUC {self.scores[name][0]:.3f}", flush=True)
        return module

    def score(self, name: str, module: nn.Module) -> None:
        """Keep AUC and accuracy on the test sentences."""
        module.eval()
        with torch.no_grad():
            found = [(self.task.logits(module, batch), batch["labels"]) for batch in self.loader(self.test)]
        logits, labels = (torch.cat(each) for each in zip(*found, strict=True))
        right = float((logits.argmax(dim=1) == labels).double().mean())
        self.scores[name] = (area_under_curve(logits[:, 1] - logits[:, 0], labels == 1), right)

    def report(self, module: nn.Module, parts: tuple[str, ...]) -> Any:
        """Return the report on the test sentences."""
        texts = self.args.adversarial_texts
        data = self.loader(self.test)
        return attention_report(module, data, self.task, parts=parts, adversarial_texts=texts, steps=self.args.steps)

    def _vectors(self, folder: str) -> Tensor:
        pieces = AutoTokenizer.from_pretrained(folder)
        weight = AutoModel.from_pretrained(folder).get_input_embeddings().weight.detach()
        words = self.tokenizer.convert_ids_to_tokens(range(len(self.tokenizer)))
        spelled = pieces(words, add_special_tokens=False)["input_ids"]
        means = torch.stack([weight[ids or [pieces.unk_token_id]].mean(dim=0) for ids in spelled])
        return means * SIZE / means.square().mean().sqrt()


def _plain(row: tuple[str, int]) -> tuple[str, int]:
    """Return a sentence without punctuation, which parts words."""
    return " ".join(re.sub(r"\W", " ", row[0]).split()), row[1]


def measure(args: Namespace) -> dict[str, Any]:
    """Return the figures, and print them as they come."""
    run, found = Run(args), {}
    print(f"{len(run.train)} training, {len(run.dev)} dev and {len(run.test)} test sentences.\n", flush=True)
    base = run.trained("lstm")
    whole = run.report(base, ("agreement", "permutation", "adversarial", "erasure") if args.whole else ("agreement",))
    print(f"\n{whole}\n", flush=True)
    reports = {"lstm": whole}
    if "averaging" in args.arms:
        reports["averaging"] = run.report(run.trained("averaging", encoder="averaging", hidden=64), ("agreement",))
    seeds = (
        [base, *(run.trained(f"seed {seed}", seed) for seed in range(1, args.seeds))] if "seeds" in args.arms else []
    )
    reports |= {f"seed {seed}": run.report(seeds[seed], ("agreement",)) for seed in range(1, len(seeds))}
    for name, report in reports.items():
        found[name] = {pair_name(*pair): report.tau(*pair) for pair in PAIRS[:3]}
    rows = [[name, *map(_beside, found[name].values(), THEIRS.get(name, THEIRS["lstm"]))] for name in reports]
    print(table(["tau (theirs)", *(pair_name(*pair) for pair in PAIRS[:3])], rows) + "\n", flush=True)
    data = run.loader(run.test)
    if len(seeds) > 1:
        compared = compare_attention(seeds, data, run.task)
        found["seeds"] = compared.summary()["all"]
        print(f"Seeds. {compared}\n", flush=True)
    if "uniform" in args.arms:
        run.trained("uniform", uniform=True)
    if "adversary" in args.arms:
        adversary = run.fresh(100)
        train_adversary(
            adversary, base, run.loader(run.train, shuffle=True), run.task, strength=args.strength, epochs=args.epochs
        )
        run.score("adversary", adversary)
        compared = compare_attention([base, adversary], data, run.task)
        found["adversary"] = compared.summary()["all"]
        print(f"The base and its adversary, λ = {args.strength:g}. {compared}\n", flush=True)
    found["scores"] = {name: {"auc": auc, "accuracy": right} for name, (auc, right) in run.scores.items()}
    lines = [[name, f"{auc:.3f}", f"{right:.3f}"] for name, (auc, right) in run.scores.items()]
    print(table(["model", "AUC (theirs, lstm: 0.902)", "accuracy (0.808)"], lines))
    return found | {"report": whole.summary}


def _beside(ours: float | None, theirs: float | None) -> str:
    return " ".join(
        "–" if value is None else shown.format(value) for value, shown in ((ours, "{:.3f}"), (theirs, "({})"))
    )


def parser() -> ArgumentParser:
    """Return the arguments."""
    found = ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--data-folder", required=True, help="holds sst2/ with train_sentences, dev and test")
    found.add_argument("--encoder-folder", help="a pretrained encoder whose word embeddings the models begin with")
    found.add_argument(
        "--arms", nargs="*", choices=ARMS[1:], default=ARMS[1:], help="what is trained beside the BiLSTM"
    )
    found.add_argument("--agreement-only", dest="whole", action="store_false", help="of the BiLSTM, tau alone")
    found.add_argument("--epochs", type=int, default=8)
    found.add_argument("--seeds", type=int, default=3, help="models whose attention is compared (default: %(default)s)")
    found.add_argument("--examples", type=int, help="test sentences (default: all)")
    found.add_argument(
        "--adversarial-texts", type=int, default=100, help="of them with adversary (default: %(default)s)"
    )
    found.add_argument("--steps", type=int, default=500, help="of an adversary (default: %(default)s)")
    found.add_argument("--strength", type=float, default=0.001, help="λ of the trained one (default: %(default)s)")
    found.add_argument("--without-punctuation", action="store_true", help="of the sentences, words alone")
    found.add_argument("--min-frequency", type=int, default=1, help="of a word that is known (default: %(default)s)")
    found.add_argument("--models-folder", help="where trained models are kept, and found by a run that goes on")
    found.add_argument("--json", help="file for the figures")
    return found


if __name__ == "__main__":
    arguments = parser().parse_args()
    figures = measure(arguments)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))
