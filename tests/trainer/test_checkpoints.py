"""What a Monitor gives its method of the run: the live optimizer, and the checkpoints written so far."""

import pytest
import torch
from digits import DigitsTask, digits, network
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import quiet_trainer
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from lightning_interpret.callbacks.influence import InfluenceMonitor
from lightning_interpret.methods.influence import GradientSimilarity, TracIn


class Images(Dataset):
    """Some of the digits."""

    def __init__(self, start, count):
        self.start, self.count = start, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        row = self.start + index
        batch = digits()[0]
        return {"pixels": batch["pixels"][row], "labels": batch["labels"][row], "example_id": row}


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.model = network(hidden=8)

    def forward(self, pixels):
        return self.model(pixels)

    def training_step(self, batch, index):
        return cross_entropy(self(batch["pixels"]), batch["labels"])

    def validation_step(self, batch, index):
        pass

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


@pytest.mark.parametrize(
    ("method", "says"), [(TracIn(), "2 checkpoints"), (GradientSimilarity(preconditioner="adam"), "preconditioned")]
)
def test_a_monitor_gives_its_method_the_optimizer_and_the_checkpoints_of_the_run(tmp_path, method, says):
    monitor = InfluenceMonitor(method, task=DigitsTask(), probes=2, max_seconds=None)  # the first run has no file yet
    explain, found = monitor.explain, []
    monitor.explain = lambda *given: found.append(explain(*given)) or found[-1]
    saved = ModelCheckpoint(tmp_path / "kept", save_top_k=-1, save_on_train_epoch_end=True)
    trainer = quiet_trainer(
        tmp_path, max_epochs=3, callbacks=[monitor, saved], enable_checkpointing=True, num_sanity_val_steps=0
    )
    trainer.fit(Net(), DataLoader(Images(0, 40), batch_size=20), DataLoader(Images(500, 8), batch_size=4))
    stated = found[-1][0].approximation
    assert says in f"{stated.unit} {stated.notes}"
    assert found[-1][0].examples == 40
