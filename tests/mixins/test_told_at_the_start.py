"""What is told as training starts: padding that nothing but the batch knows, and layers that no optimizer has."""

import pytest
import torch
from lightning.pytorch import LightningModule
from tiny import VOCABULARY, quiet_trainer, wordpiece
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import RationaleMixin, SequenceClassification, SpanExplanationMixin


class Mean(LightningModule):
    """Embedding, a layer, a mean over what the mask leaves, and a head."""

    def __init__(self, padding=None, tokenizer=None, **options):
        super().__init__(**options)
        self.embedding, self.tokenizer = nn.Embedding(VOCABULARY, 8, padding_idx=padding), tokenizer
        self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

    def forward(self, batch):
        mask = batch["attention_mask"][..., None]
        states = self.layer(self.embedding(batch["input_ids"])).tanh()
        return self.head((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def interpret_task(self):
        return MeanTask(self.tokenizer, ["bad", "good"])


class MeanTask(SequenceClassification):
    def logits(self, module, batch):
        return module(batch)

    def layer(self, module):
        return "embedding"


class Selects(RationaleMixin, Mean):
    pass


class Weighs(SpanExplanationMixin, Mean):
    def __init__(self, *args, **options):
        super().__init__(*args, span_layer="layer", **options)


def loader(length=4):
    ids = torch.tensor([[7, 8, 9, 10, 11, 0, 0], [7, 9, 11, 8, 10, 12, 13]])[:, :length]
    rows = [{"input_ids": row, "attention_mask": (row != 0).long(), "labels": torch.tensor(1)} for row in ids]
    return DataLoader(rows, batch_size=2)


@pytest.mark.parametrize(("kind", "name"), [(Selects, "rationale_layer='embedding'"), (Weighs, "span_layer")])
def test_padding_that_nothing_tells_is_refused(kind, name, tmp_path):
    with pytest.raises(ValueError, match=f"`{name}`: the batch's `attention_mask` hides tokens.*`padding_idx=`"):
        quiet_trainer(tmp_path, max_epochs=1).fit(kind(), loader(7))
    quiet_trainer(tmp_path, max_epochs=1).fit(kind(), loader(4))  # there is none
    for known in ({"padding": 0}, {"tokenizer": wordpiece()}):
        quiet_trainer(tmp_path, max_epochs=1).fit(kind(**known), loader(7))


@pytest.mark.parametrize(("kind", "options"), [(Selects, {}), (Weighs, {"baseline": "mask"})])
def test_it_is_not_explained_either(kind, options):
    module, (batch,) = kind(tokenizer=wordpiece(pad_token=None)), loader(7)
    module.configure_model()
    with pytest.raises(ValueError, match="hides tokens that it does not know as padding"):
        module.eval().explain(batch, **options)


@pytest.mark.parametrize(("kind", "child"), [(Selects, "rationale"), (Weighs, "spans")])
def test_what_no_optimizer_has_is_refused(kind, child, tmp_path):
    class Partly(kind):
        parts = ("embedding", "layer", "head")

        def configure_optimizers(self):
            return torch.optim.SGD([w for part in self.parts for w in getattr(self, part).parameters()], lr=0.1)

    with pytest.raises(ValueError, match=f"no weight of `{child}`, which would not be trained: .*`self.parameters"):
        quiet_trainer(tmp_path, max_epochs=1).fit(Partly(padding=0), loader(7))
    trained = type("Trained", (Partly,), {"parts": (*Partly.parts, child)})
    quiet_trainer(tmp_path, max_epochs=1).fit(trained(padding=0), loader(7))
    frozen = Partly(padding=0)
    frozen.configure_model()
    getattr(frozen, child).requires_grad_(False)
    quiet_trainer(tmp_path, max_epochs=1).fit(frozen, loader(7))
