"""Turn-over dropout as a mixin: masks in training alone, fixed for each example."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret.mixins import JointMixin, TurnOverDropoutMixin


class Net(TurnOverDropoutMixin, LightningModule):
    def __init__(self, **options):
        super().__init__(**options)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, batch):
        return self.last(self.first(batch["x"]).relu())

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["labels"])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _data(count=12):
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(0))
    return [{"x": row, "labels": torch.tensor(i % 2), "example_id": torch.tensor(i)} for i, row in enumerate(x)]


def test_a_fit_masks_in_training_alone(tmp_path):
    model = Net()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    Trainer(max_epochs=1, default_root_dir=tmp_path, accelerator="cpu", **quiet).fit(
        model, DataLoader(_data(), batch_size=4)
    )
    assert model.turn_over_dropout.sites == ("first", "input of last")
    batch = {"x": torch.randn(3, 4), "example_id": torch.tensor([0, 1, 2])}
    model.eval()
    plain = model(batch)
    with model.turn_over_dropout.seen(batch["example_id"]):
        assert not torch.equal(model(batch), plain)
    assert torch.equal(model(batch), plain)


def test_a_mixin_after_the_module_is_refused():
    with pytest.raises(TypeError, match="mixins first"):
        type("Wrong", (LightningModule, TurnOverDropoutMixin), {})
    with pytest.raises(TypeError, match="mixins first"):
        type("Wrong", (LightningModule, JointMixin), {})
