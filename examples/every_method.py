"""Every method of the package on one model, beside the truth: what it costs, how far it misses, what it finds.

python examples/every_method.py
"""

import time

import torch
from lightning.pytorch import Trainer, seed_everything
from torch.utils.data import DataLoader

from lightning_interpret import explain
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.methods import METHODS
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.report.terminal import table
from lightning_interpret.tasks.encode import encode

LABELS = ["negative", "positive"]
EXPLAINED, QUICK = 12, {"expected_gradients": {"samples": 32}, "smooth_grad": {"samples": 16}}
seed_everything(0, verbose=False)
corpus = ReviewCorpus(4000, seed=0)
train, val = [corpus[i] for i in range(len(corpus))], [ReviewCorpus(200, seed=1)[i] for i in range(EXPLAINED)]
model = small_encoder([review.text for review in train], LABELS)


def collate(reviews):
    """Make a batch of reviews."""
    labels = [LABELS.index(review.label) for review in reviews]
    return dict(encode(model.tokenizer, [review.text for review in reviews], max_length=128, labels=labels))


def found(records):
    """Return the share of the strongest words that decide the label: k words where k of them do."""
    hits = []
    for record, review in zip(records, val, strict=True):
        words = [word for word in record.merged() if not word.special]
        order = sorted(range(len(words)), key=lambda i: -abs(words[i].score))
        truth = set(review.rationale)
        hits.append(len(truth & set(order[: len(truth)])) / len(truth))
    return sum(hits) / len(hits)


def agreement(records, others):
    """Return the mean cosine with the scores of another method."""
    pairs = [(torch.tensor(a.scores), torch.tensor(b.scores)) for a, b in zip(records, others, strict=True)]
    return sum(float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs) / len(pairs)


def median(values):
    """Return the median, None where there is nothing."""
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


if __name__ == "__main__":
    trainer = Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate))
    model.eval()
    texts, lines, reference = [review.text for review in val], [], None
    for name in ["integrated_gradients", *(name for name in METHODS if name != "integrated_gradients")]:
        method = METHODS[name](**QUICK.get(name, {}))
        drawn = method.baseline_used is not None and method.baseline_used.drawn
        began = time.perf_counter()
        references = {"references": [review.text for review in train[:16]]} if drawn else {}
        records = explain(model, model.tokenizer, texts, method=method, **references)
        spent = (time.perf_counter() - began) / EXPLAINED
        reference = reference or records
        error = median(record.relative_error for record in records)
        lines.append(
            [
                name,
                records.baseline or "none",
                None if error is None else f"{error:.1%}",
                f"{sum(record.gradients for record in records) / EXPLAINED:.0f}",
                f"{sum(record.forwards for record in records) / EXPLAINED:.0f}",
                f"{1000 * spent:.0f}",
                f"{found(records):.0%}",
                f"{agreement(records, reference):+.2f}" if records.layer == reference.layer else None,
            ]
        )
    headers = ["method", "baseline", "misses T by", "gradients", "forwards", "ms", "finds", "cosine with IG"]
    print(table(headers, lines))
    print('"finds": the share of the strongest words that decide the label. A ranking has no target T to miss.')
