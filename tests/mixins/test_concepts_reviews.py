"""Concepts of generated reviews: what is said of food, service, price and ambience decides, and can be set."""

import pytest
import torch
from lightning.pytorch import LightningModule
from tiny import quiet_trainer
from torch import nn
from torch.nn import functional as F

from lightning_interpret import ConceptBottleneckMixin, SequenceClassification, TextDataModule
from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

ASPECTS = ("food", "service", "price", "ambience")
NAMES = [f"{aspect} {said}" for aspect in ASPECTS for said in ("good", "bad")]
LABELS = ["negative", "positive"]


class Reviews(LightningModule):
    """A convolution over words, the largest value of each filter, and a head."""

    def __init__(self, tokenizer, **options):
        super().__init__(**options)
        self.tokenizer, self.labels = tokenizer, LABELS
        self.embedding = nn.Embedding(len(tokenizer), 48, padding_idx=tokenizer.pad_token_id)
        self.filters, self.head = nn.Conv1d(48, 128, 5, padding=2), nn.Linear(128, 2)

    def forward(self, batch):
        hidden = self.filters(self.embedding(batch["input_ids"]).transpose(1, 2)).relu()
        return self.head(hidden.amax(dim=2))

    def interpret_task(self):
        class Task(SequenceClassification):
            def logits(self, module, batch):
                return module(batch)

        return Task(self.tokenizer, LABELS)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def validation_step(self, batch, batch_idx):
        right = self(batch).argmax(dim=1) == batch["labels"]
        self.log("val_accuracy", right.float().mean(), batch_size=len(right))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=4e-3)


class WithConcepts(ConceptBottleneckMixin, Reviews):
    pass


def write(path, size, seed, names):
    rows = [ReviewCorpus(size, seed=seed)[i] for i in range(size)]
    lines = ["\t".join(["text", "label", *names])]
    for row in rows:
        said = [str(int(row.aspects.get(aspect) == sign)) for aspect in ASPECTS for sign in (1, -1)][: len(names)]
        lines.append("\t".join([row.text, row.label, *said]))
    path.write_text("\n".join(lines) + "\n")
    return str(path), [row.text for row in rows]


def trained(folder, size, epochs, seed=0, concept_names=NAMES, **options):
    train, texts = write(folder / "train.tsv", size, seed, concept_names)
    held, _ = write(folder / "val.tsv", 400, 100 + seed, concept_names)
    torch.manual_seed(seed)
    module = WithConcepts(word_piece(texts), concept_names=concept_names, **options)
    data = TextDataModule(train_file=train, val_file=held)
    trainer = quiet_trainer(folder, max_epochs=epochs, check_val_every_n_epoch=epochs, num_sanity_val_steps=0)
    trainer.fit(module, data)
    return module, data, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_review_is_explained_by_what_it_says_of_each_side(tmp_path):
    module, data, found = trained(tmp_path, 1000, 7)
    assert found["concepts/accuracy"] >= 0.8
    assert found["val_accuracy"] == pytest.approx(found["concepts/task_accuracy"], abs=1e-6)
    assert found["concepts/ablated_accuracy"] <= 0.58
    assert abs(found["concepts/leakage"]) <= 0.05
    curve = module.concept_curve(data.val_dataloader(), points=3)
    assert curve[0] == pytest.approx(found["val_accuracy"], abs=1e-6)
    assert curve[0] + 0.03 < curve[1] < curve[2]
    assert curve[2] >= 0.92
    batch = next(iter(data.val_dataloader()))
    for row, classes in zip(module.explain(batch, which="positive"), batch["labels"].tolist(), strict=True):
        assert row.gold == LABELS[classes]
        assert abs(row.error) < 1e-4
    weights = module.head.weight[1] - module.head.weight[0]
    assert all(good > 0 > bad for good, bad in zip(weights[::2], weights[1::2], strict=True))
    nothing_good = {f"{aspect} good": 0.0 for aspect in ASPECTS} | {f"{aspect} bad": 1.0 for aspect in ASPECTS}
    with module.intervene(nothing_good):
        assert {row.prediction for row in module.explain(batch)} == {"negative"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_joint_training_and_free_concepts_do_to_named_ones(seed, tmp_path):
    _, _, stopped = trained(tmp_path, 1500, 8, seed)
    _, _, joint = trained(tmp_path, 1500, 8, seed, concept_stop_gradient=False, concept_weight=0.01)
    assert stopped["concepts/intervened_accuracy"] >= stopped["concepts/task_accuracy"] + 0.03
    assert joint["concepts/accuracy"] <= stopped["concepts/accuracy"] - 0.15
    assert joint["concepts/intervened_accuracy"] <= joint["concepts/task_accuracy"] + 0.02  # the truth is of no use
    few = NAMES[:4]
    _, _, alone = trained(tmp_path, 1500, 8, seed, concept_names=few)
    _, _, half = trained(tmp_path, 1500, 8, seed, concept_names=few, concept_count=4)
    assert half["val_accuracy"] >= alone["val_accuracy"] + 0.04  # what has no name is found
    assert half["concepts/accuracy"] >= alone["concepts/accuracy"] - 0.03
    assert half["concepts/leakage"] <= 0.15
    print(f"{seed=} {stopped=} {joint=} {alone=} {half=}")
