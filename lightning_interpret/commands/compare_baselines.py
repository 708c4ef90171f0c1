"""`lightning-interpret compare --what baselines`: methods side by side, with numbers, pictures and a page to read."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from lightning_interpret.commands.baselines import compare_baselines
from lightning_interpret.commands.load import load_classifier
from lightning_interpret.data import ShapesDataset, read_rows
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.modules.portable import named_config
from lightning_interpret.names import choose
from lightning_interpret.report import sheet
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks import OUTPUTS, ImageClassification, ObjectDetection, Task, batches
from lightning_interpret.tasks.encode import encode, max_tokens

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
_SIZE, _CLASSIFIER_STEPS, _DETECTOR_STEPS, _UNSEEN = 64, 300, 1200, 200
_THRESHOLD = 0.3  # probability from which a detector's box is explained
_HEADERS = ("method", "T", "sum", "error", "share of T", "dropped", "misses F(x) − F(x')")


@dataclass(frozen=True)
class Subject:
    """A model, and some examples to explain of it.

    Attributes:
        name: What it is called in files.
        title: What it is, in a line.
    """

    name: str
    title: str
    module: nn.Module
    task: Task
    batch: Any
    which: str


def run(options: argparse.Namespace) -> int:
    """Compare and write ``baselines.md``, ``baselines.json`` and a picture an example.

    Returns:
        0.
    """
    choose("--score", options.score, OUTPUTS)
    Baseline.ensure(options.baseline)
    if (options.model is None) != (options.input is None):
        raise ValueError("`--model` and `--input` go together: a model of yours, and what it is to be explained on.")
    folder = Path(options.output_dir)
    page, found = [_INTRODUCTION], []
    for subject in _generated(options) if options.model is None else [_given(options)]:
        rows = compare_baselines(
            subject.module,
            subject.batch,
            subject.task,
            layer=options.layer,
            which=subject.which,
            output=options.score,
            baseline=options.baseline,
        )
        lines = summary(rows)
        heading = f"{subject.title}: mean over {_number(rows)} explanations, of {rows[0]['explained']}"
        print(f"\n{heading}\n\n{table(_HEADERS, lines)}")
        pictures = _pictures(rows, subject.name, folder)
        page += [f"## {heading}\n", _markdown(lines), *(f"![{name}]({name})\n" for name in pictures)]
        kept = [{key: value for key, value in row.items() if key != "record"} for row in rows]
        found += [{"model": subject.name, **row} for row in kept]
    why = dict.fromkeys((row["name"], row["why"]) for row in found)
    page += ["## Why\n", *(f"* **{name}**: {reason}." for name, reason in why)]
    (folder / "baselines.md").write_text("\n".join(page) + "\n", encoding="utf8")
    (folder / "baselines.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
    print(f"\nThe page is {folder / 'baselines.md'}, with pictures beside it; every number is in baselines.json.")
    return 0


_INTRODUCTION = """# What becomes of the baseline

A score is a share of a change, T = F(x) − F(baseline). T and the sum are means, the error is the mean of
|Σ scores − T|. What a method dropped makes up the difference: Σ scores + dropped = T. The last column says by how much
the sum misses the change from the input-determined baseline x', which is the same for every method and layer.
"""


def summary(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return a line a method: means over what it explained."""
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        of = [row for row in rows if row["name"] == name]
        kinds = dict.fromkeys(kind for row in of for kind in row["dropped"] if kind != "quadrature")
        dropped = [f"{kind} {_mean(row['dropped'].get(kind, 0.0) for row in of):+.2f}" for kind in kinds]
        error, size = _mean(abs(row["error"]) for row in of), _mean(abs(row["target"]) for row in of)
        lines.append(
            [
                name,
                f"{_mean(row['target'] for row in of):+.2f}",
                f"{_mean(row['sum'] for row in of):+.2f}",
                f"{error:.2f}",
                f"{error / max(size, 1e-12):.1%}",
                ", ".join(dropped) or None,
                f"{_mean(abs(row['shared_error']) for row in of):.2f}",
            ]
        )
    return lines


def _mean(values: Iterator[float] | Sequence[float]) -> float:
    listed = list(values)
    return math.fsum(listed) / max(1, len(listed))


def _number(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(row["name"] == rows[0]["name"] for row in rows)


def _markdown(lines: Sequence[Sequence[Any]]) -> str:
    marks = ["---", *["---:"] * 4, "---", "---:"]
    shown = [_HEADERS, marks, *([cell or "–" for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(line)} |" for line in shown) + "\n"


def _pictures(rows: Sequence[Mapping[str, Any]], name: str, folder: Path) -> list[str]:
    """Write one picture an explanation, of all methods, and return their names; texts have none."""
    files = []
    for number in range(_number(rows)):
        of = list(rows[number :: _number(rows)])
        records = [row["record"] for row in of]
        if records[0].units != "location":
            return []
        captions = [f"T {row['target']:+.2f}  Σ {row['sum']:+.2f}  error {abs(row['error']):.2f}" for row in of]
        files.append(f"{name}_{number}.png")
        sheet.render([row["name"] for row in of], records, captions).save(folder / files[-1])
    return files


# A model of the user's own


def _given(options: argparse.Namespace) -> Subject:
    """Return the model that the user named, with the texts or the pictures of the input."""
    name = Path(options.model).name
    heads = [] if Path(options.model).is_file() else named_config(options.model).architectures or []
    for head, task in (("ForImageClassification", ImageClassification), ("ForObjectDetection", ObjectDetection)):
        if any(head in architecture for architecture in heads):
            return _of_images(options, name, head, task)
    module = load_classifier(options.model)
    columns = {"text_column": options.text_column, "label_column": None, "id_column": None}
    texts = [row.text for row in islice(read_rows(options.input, **columns), options.examples)]
    batch = encode(module.tokenizer, texts, max_length=max_tokens(module.tokenizer, module.model))
    return Subject(name, f"{name}, {len(texts)} texts", module, module.interpret_task(), batch, options.which)


def _of_images(options: argparse.Namespace, name: str, head: str, task: Any) -> Subject:
    import transformers

    model = getattr(transformers, f"AutoModel{head}").from_pretrained(options.model).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(options.model)
    paths = sorted(_images_in(Path(options.input)))[: options.examples]
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(image.convert("RGB"))
    labels = [str(label) for _, label in sorted(model.config.id2label.items())]
    read = task(labels, processor)
    batch = dict(processor(images=images, return_tensors="pt"))  # with the mask of images that are padded to one size
    return Subject(name, f"{name}, {len(paths)} pictures", model, read, batch, options.which)


def _images_in(path: Path) -> list[Path]:
    found = [path] if path.is_file() else [p for p in path.glob("*") if p.suffix.lower() in _PICTURES]
    if not found:
        raise OSError(f"`--input {path}` holds no pictures ({', '.join(_PICTURES)}).")
    return found


# Models made here


def _generated(options: argparse.Namespace) -> Iterator[Subject]:
    """Yield a ResNet, and a DETR on it, trained on generated shapes."""
    from lightning.pytorch import seed_everything

    from lightning_interpret.modules import shape_models

    seed_everything(options.seed, verbose=False)
    pictures = partial(ShapesDataset, image_size=_SIZE)
    data, unseen = pictures(2000, seed=options.seed), pictures(_UNSEEN, seed=options.seed + 1)
    classifier = _trained(shape_models.small_classifier(data.shapes), data, _CLASSIFIER_STEPS, options)
    yield _subject("resnet", classifier, ImageClassification(data.shapes, data.processor), unseen, options)

    data = pictures(2000, seed=options.seed, objects=(1, 2))
    unseen = pictures(_UNSEEN, seed=options.seed + 1, objects=(1, 2))
    detector = _trained(shape_models.small_detector(data.shapes, classifier), data, _DETECTOR_STEPS, options)
    task = ObjectDetection(data.shapes, data.processor, threshold=_THRESHOLD)
    yield _subject("detr", detector, task, unseen, options)


def _trained(model: Any, data: ShapesDataset, steps: int, options: argparse.Namespace) -> Any:
    from lightning_interpret.modules.shape_models import train

    print(f"Training a small {type(model.model).__name__} on generated shapes ({steps} batches) ...", flush=True)
    return train(model, data, steps=steps, folder=options.output_dir)


def _subject(name: str, model: Any, task: Task, unseen: ShapesDataset, options: argparse.Namespace) -> Subject:
    """Return a trained model with some pictures that it has not seen, and in how many of them it finds a shape."""
    rows = [unseen[i] for i in range(_UNSEEN)]
    batch = unseen.collate(rows)
    with torch.no_grad():
        said = task.names(task.logits(model, batch))
    there = [{unseen.shapes[i] for i in row["class_labels"].tolist()} for row in rows]
    right = sum(shape in shapes for shape, shapes in zip(said, there, strict=True)) / _UNSEEN
    few, which = batches.take(batch, torch.arange(options.examples)), options.which
    if isinstance(task, ImageClassification):
        few["labels"] = torch.tensor([row["labels"] for row in rows[: options.examples]])
    elif which == "predicted":
        which = "all"
    title = f"{type(model.model).__name__} (right in {right:.0%} of {_UNSEEN} unseen pictures)"
    return Subject(name, title, model, task, few, which)
