"""Models that explain themselves beside a plain one that is explained afterwards, on texts that people marked.

    python benchmarks/rationales.py --data-folder DATA
    python benchmarks/rationales.py --data-folder DATA --encoder-folder MINILM --epochs 3
    python benchmarks/rationales.py --data-folder DATA --sets hatexplain esnli --methods all --plain

HateXplain, e-SNLI highlights, SST-2 (nobody marked words there) and ERASER Movies in windows of 200 words; a small
encoder from scratch, or a pretrained one that is fine-tuned.

* accuracy, macro-F1: of the predictions, from the selection alone where the model selects.
* token F1, IOU F1, AUPRC: agreement with people's marks (ERASER's definitions), of the texts that have any. A ranking
  is cut at the budget, the same share of each text.
* sufficiency, comprehensiveness: what the class predicted loses in probability from the selection alone, and without
  it. Of a plain model, tokens that are left out are PAD; of a model with a gate they are gated out, and of one with
  spans, PAD.
* a random order, on the plain model.

By default the plain model is explained by two methods; ``--methods`` names others, or ``all`` of those that rank the
tokens of a text with default options; ``--plain`` leaves out the models that explain themselves.
"""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer, seed_everything
from rationale_data import SETS, Data, loader, some
from sst2 import where_run
from torch import Tensor
from torchmetrics.functional.classification import multiclass_f1_score

from lightning_interpret import TextClassifier
from lightning_interpret.functional.faithfulness import comprehensiveness, highest, sufficiency
from lightning_interpret.functional.plausibility import auprc, f1, span_matches, token_f1
from lightning_interpret.methods import METHODS
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.modules.joint import RationaleTextClassifier, SpanTextClassifier
from lightning_interpret.modules.portable import config_values

HEADS = ("accuracy", "macro-F1", "token F1", "IOU F1", "AUPRC", "sufficiency", "comprehensiveness", "seconds")
Row = dict[str, Tensor]

#: Methods by the name of their line; those of attention where the package has them.
METHOD_NAMES = {
    "LRP": "layerwise_relevance",
    "integrated gradients": "integrated_gradients",
    "gradient": "gradient",
    "gradient x input": "gradient_times_input",
    "SmoothGrad": "smooth_grad",
    "occlusion": "occlusion",
    "DeepLIFT": "deep_lift",
    "LIME": "lime",
    "attention": "attention_weights",
    "attention rollout": "attention_rollout",
    "attention x gradient": "gradient_attention",
    "value zeroing": "value_zeroing",
}
METHOD_NAMES = {line: name for line, name in METHOD_NAMES.items() if name in METHODS}
TWO = ["LRP", "integrated gradients"]


def train(args: Namespace, data: Data, seed: int, kind: type, **options: Any) -> tuple[Any, float]:
    """Return a trained module, and the seconds that took."""
    seed_everything(seed, verbose=False)
    if args.encoder_folder:
        module = kind(args.encoder_folder, data.labels, learning_rate=5e-5, **options)
    else:
        like = small_encoder([row.text for row in data.train], data.labels)
        module = kind(
            config=config_values(like.config),
            labels=data.labels,
            tokenizer=like.tokenizer,
            learning_rate=5e-4,
            **options,
        )
    batches = loader(module.tokenizer, data.train, data.length, args.batch_size, shuffle=True)
    trainer = Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    begin = time.perf_counter()
    trainer.fit(module, batches)
    return module.eval(), time.perf_counter() - begin


def agreement(scores: Tensor, selected: Tensor, gold: Tensor, counts: Tensor) -> Row:
    """Return what is measured against people's marks, NaN for texts without any."""
    asked = (gold == 1).any(dim=1)
    marked = (gold == 1) & counts
    matches, ours, theirs = span_matches(selected, marked, counts)
    found = {
        "token F1": token_f1(selected, marked, counts),
        "IOU F1": f1(matches, ours, theirs),
        "AUPRC": auprc(scores, marked, counts),
    }
    return {name: values.masked_fill(~asked, torch.nan) for name, values in found.items()}


def of_plain(module: Any, batch: Any, share: float, score: Callable[[Any], Tensor]) -> Row:
    """Return the figures of a model that is explained afterwards, by the scores of its tokens."""
    task = module.interpret_task()
    units = task.units(batch)
    counts, percent = ~(units.special | units.padding), round(100 * share)
    scores, pad = score(batch), module.tokenizer.pad_token_id
    with torch.no_grad():
        target = module(batch).argmax(dim=1)

    @torch.no_grad()
    def kept(present: Tensor, rows: Tensor) -> Tensor:
        ids, mask = batch["input_ids"][rows].where(present, pad), batch["attention_mask"][rows]
        shares = module.model(input_ids=ids, attention_mask=mask).logits.softmax(dim=1)
        return shares.gather(1, target[rows, None]).squeeze(1)

    selected = highest(scores, counts, [percent])[0]
    return agreement(scores, selected, batch["rationale"], counts) | {
        "prediction": target,
        "sufficiency": sufficiency(scores, counts, kept, bins=[percent])[:, 0],
        "comprehensiveness": comprehensiveness(scores, counts, kept, bins=[percent])[:, 0],
    }


def of_gate(module: Any, batch: Any) -> Row:
    """Return the figures of a model that selects, by what it says of itself."""
    rows = module.explain(batch)
    size = batch["input_ids"].shape[1]
    padded = lambda values: torch.tensor([[*map(float, each), *[0.0] * (size - len(each))] for each in values])  # noqa: E731
    counts = ~padded([row.special for row in rows]).bool() & batch["attention_mask"].bool()
    scores, selected = (padded([getattr(row, name) for row in rows]) for name in ("probabilities", "selected"))
    return agreement(scores, selected.bool() & counts, batch["rationale"], counts) | {
        "prediction": torch.tensor([module.labels.index(row.prediction) for row in rows]),
        "sufficiency": torch.tensor([row.sufficiency for row in rows]),
        "comprehensiveness": torch.tensor([row.comprehensiveness for row in rows]),
    }


def token_weights(module: Any, batch: Any) -> Tensor:
    """Return for each token the weights of the spans that it is in."""
    scores = torch.zeros(batch["input_ids"].shape)
    for i, row in enumerate(module.explain(batch, k=1)):
        scores[i, : len(row.token_weights)] = torch.tensor(row.token_weights)
    return scores


def measured(module: Any, data: Data, args: Namespace, each: Callable[[Any], Row]) -> dict[str, float]:
    """Return the figures of one way to explain one model, in percent."""
    begin, parts, labels = time.perf_counter(), [], []
    for batch in loader(module.tokenizer, data.test, data.length, 32, shuffle=False):
        parts.append(each(batch))
        labels.append(batch["labels"])
    rows, gold = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}, torch.cat(labels)
    said = rows.pop("prediction")
    macro = multiclass_f1_score(said, gold, num_classes=len(data.labels), average="macro")
    figures = {"accuracy": (said == gold).double().mean(), "macro-F1": macro}
    figures |= {name: values.double().nanmean() for name, values in rows.items()}
    return {name: 100 * float(value) for name, value in figures.items()} | {"seconds": time.perf_counter() - begin}


def compared(args: Namespace, data: Data, seed: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each line of the table."""
    plain, spent = train(args, data, seed, TextClassifier)
    task, draw = plain.interpret_task(), torch.Generator().manual_seed(seed)
    ways: dict[str, Callable[[Any], Tensor]] = {
        "plain, random order": lambda batch: torch.rand(batch["input_ids"].shape, generator=draw),
    }
    for line in METHOD_NAMES if "all" in args.methods else args.methods:
        method = METHODS[METHOD_NAMES[line]]()
        ways[f"plain, {line}"] = lambda batch, method=method: method(plain, batch, task).scores
    for name, way in ways.items():
        yield name, measured(plain, data, args, lambda batch, way=way: of_plain(plain, batch, args.share, way))
    print(f"plain: {spent:.0f} s of training", flush=True)
    if args.plain:
        return
    kinds: dict[str, dict[str, Any]] = {"rationale": {}}
    if any(row.spans is not None for row in data.train):
        kinds["rationale, supervised by marks"] = {"rationale_supervision": 1.0}
    for name, options in kinds.items():
        module, spent = train(args, data, seed, RationaleTextClassifier, rationale_target=args.share, **options)
        yield name, measured(module, data, args, lambda batch, module=module: of_gate(module, batch))
        print(f"{name}: {spent:.0f} s of training", flush=True)
    module, spent = train(args, data, seed, SpanTextClassifier)
    weights = lambda batch: token_weights(module, batch)  # noqa: E731
    yield "spans", measured(module, data, args, lambda batch: of_plain(module, batch, args.share, weights))
    print(f"spans: {spent:.0f} s of training", flush=True)


def main() -> None:
    """Print a table for each set."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data-folder", required=True, help="holds hatexplain/, esnli/, sst2/ and eraser_movies/")
    parser.add_argument(
        "--encoder-folder", help="a pretrained encoder to fine-tune (default: a small one from scratch)"
    )
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="(default: all)")
    parser.add_argument(
        "--methods", nargs="+", choices=["all", *METHOD_NAMES], default=TWO, help="on the plain model (default: two)"
    )
    parser.add_argument("--plain", action="store_true", help="explain the plain model alone")
    parser.add_argument("--seeds", type=int, default=1, help="modules to train of each kind (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=6, help="(default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--share", type=float, default=0.2, help="of each text's tokens (default: %(default)s)")
    parser.add_argument("--examples", type=int, help="only so many training texts")
    parser.add_argument("--test", type=int, default=500, help="texts that are explained (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="of the processor (default: torch's)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    print(f"On {where_run(torch.device('cpu'))}.")
    for name in args.sets:
        data = SETS[name](Path(args.data_folder), some(args.examples))
        data = Data(data.labels, data.length, data.train, some(args.test)(data.test))
        found: dict[str, list[dict[str, float]]] = {}
        for seed in range(args.seeds):
            for line, figures in compared(args, data, seed):
                found.setdefault(line, []).append(figures)
                said = ", ".join(f"{head} {_cell([figures[head]]) or 'none'}" for head in HEADS)
                print(f"{name}, seed {seed}, {line}: {said}", flush=True)
        where = "fine-tuned encoder" if args.encoder_folder else "small encoder from scratch"
        print(f"\n{name}: {len(data.train):,} training texts, {len(data.test)} explained, {where},")
        print(f"{args.epochs} epochs, {args.share:.0%} of the tokens, means over {args.seeds} seeds, %\n")
        print(f"| | {' | '.join(HEADS)} |\n| --- |{' ---: |' * len(HEADS)}")
        for line, rows in found.items():
            print(f"| {line} | " + " | ".join(_cell([row[head] for row in rows]) for head in HEADS) + " |")
        print(flush=True)


def _cell(values: list[float]) -> str:
    known = torch.tensor(values, dtype=torch.float64)
    if known.isnan().any():
        return ""
    return f"{known.mean():.1f}" + (f" ± {known.std():.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
