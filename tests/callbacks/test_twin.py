"""The plain twin: trained as a plain module alone is, to the last bit, beside a training that it does not touch."""

import os
import warnings
from functools import partial

import pytest
import torch
from digits import DigitsTask, digits
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from purity import Cell, Toy, ToyTask, assert_same, bracketed
from tiny import quiet_trainer, wordpiece
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lightning_interpret import KernelMixin, PlainTwin, SaliencyMonitor, TurnOverDropoutMixin


class Net(LightningModule):
    """A network on digits; ``schedule`` says how its learning rate falls."""

    def __init__(self, schedule=None, **options):
        super().__init__(**options)
        self.first, self.norm, self.last = nn.Linear(64, 24), nn.BatchNorm1d(24), nn.Linear(24, 10)
        self.schedule = schedule

    def forward(self, batch):
        return self.last(self.norm(self.first(batch["pixels"].to(self.dtype)).relu()))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch), batch["labels"])
        self.log("train_loss", loss)
        batch["pixels"] = torch.zeros_like(batch["pixels"])  # what is left of it is nothing to train on
        return {"loss": loss}

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", (self(batch).argmax(dim=1) == batch["labels"]).float().mean())

    def interpret_task(self):
        return Task()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        kinds = torch.optim.lr_scheduler
        if self.schedule == "step":
            steps = self.trainer.estimated_stepping_batches
            return [optimizer], [
                {"scheduler": kinds.LinearLR(optimizer, 1.0, 0.0, total_iters=steps), "interval": "step"}
            ]
        if self.schedule == "plateau":
            return {"optimizer": optimizer, "lr_scheduler": kinds.ReduceLROnPlateau(optimizer), "monitor": "train_loss"}
        return ([optimizer], [kinds.ExponentialLR(optimizer, 0.5)]) if self.schedule == "epoch" else optimizer


class Task(DigitsTask):
    def logits(self, module, batch):
        return module(batch)


class Joint(TurnOverDropoutMixin, Net):
    pass


class Detached(Joint):
    """Its plain form has no dropout at all: what draws nothing can be trained again elsewhere."""

    def become_plain(self):
        super().become_plain()
        self.detach_turn_over_dropout()


class Kernel(KernelMixin, Net):
    pass


class WarmsUp(Net):
    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        for group in optimizer.param_groups:
            group["lr"] = 0.02 * (1 + self.trainer.global_step)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)


class DetachedWarmsUp(Detached, WarmsUp):
    pass


def loaders():
    train, val = digits()
    rows = [[{name: values[i].clone() for name, values in part.items()} for i in range(110)] for part in (train, val)]
    return [DataLoader(part, batch_size=16) for part in rows]


def fit(folder, module, callbacks=(), *, ckpt_path=None, **options):
    torch.manual_seed(1)
    trainer = quiet_trainer(folder, **{"max_epochs": 2, "callbacks": list(callbacks)} | options)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers|.*lr_scheduler.step", category=Warning)
        trainer.fit(module, *loaders(), ckpt_path=ckpt_path)
    return trainer


def seeded(kind, **options):
    torch.manual_seed(0)
    return kind(**options)


def weights(module):
    return {name: value for name, value in module.state_dict().items() if "turn_over" not in name}


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ({}, {}),
        ({"schedule": "step"}, {"accumulate_grad_batches": 3}),
        ({"schedule": "epoch"}, {"limit_train_batches": 5, "accumulate_grad_batches": 2}),
        ({"schedule": "step"}, {"gradient_clip_val": 0.1, "precision": "bf16-mixed"}),
        (
            {"schedule": "epoch"},
            {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value", "precision": "64-true"},
        ),
        ({}, {"precision": "bf16-true"}),
    ],
    ids=str,
)
def test_the_twin_is_a_plain_module_trained_alone(tmp_path, module, options):
    callback = PlainTwin(on_error="raise")
    joint = seeded(Detached, **module)
    trainer = fit(tmp_path, joint, [callback], **options)
    alone = seeded(Net, **module)
    other = fit(tmp_path, alone, **options)
    assert_same(weights(alone), weights(callback.twin))
    assert_same(other.optimizers[0].state_dict(), callback._second._optimizer.state_dict())
    assert not torch.equal(alone.first.weight, joint.first.weight)
    logged = trainer.callback_metrics
    accuracy = other.callback_metrics["val_accuracy"].item()
    assert logged["interpret/twin/accuracy"].item() == pytest.approx(accuracy, abs=1e-6)
    cost = logged["interpret/twin/accuracy"] - logged["val_accuracy"]
    assert logged["interpret/twin/cost"].item() == pytest.approx(cost.item(), abs=1e-6)
    assert logged["interpret/twin/seconds"] > 0


def test_the_twin_scales_its_own_loss_in_half_precision(tmp_path):
    def plugin():  # the first steps overflow and are skipped, until the scale is small enough
        return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20))

    callback, joint, alone = PlainTwin(on_error="raise"), seeded(Detached), seeded(Net)
    fit(tmp_path, joint, [callback], plugins=[plugin()], accumulate_grad_batches=2, gradient_clip_val=0.5)
    other = fit(tmp_path, alone, plugins=[plugin()], accumulate_grad_batches=2, gradient_clip_val=0.5)
    assert_same(weights(alone), weights(callback.twin))
    assert callback.state_dict()["scaler"] == other.precision_plugin.state_dict()
    assert other.precision_plugin.scaler.get_scale() < 2.0**20


def test_hooks_of_the_module_are_the_twins_too(tmp_path):
    callback = PlainTwin(on_error="raise")
    fit(tmp_path, seeded(DetachedWarmsUp), [callback])
    alone = seeded(WarmsUp)
    fit(tmp_path, alone)
    assert_same(weights(alone), weights(callback.twin))


@pytest.mark.parametrize("refresh", ["epoch", 3])
def test_the_twin_of_a_kernel_layer_has_the_head_alone(tmp_path, refresh):
    callback = PlainTwin(on_error="raise")
    joint = seeded(Kernel, kernel_landmarks=20, kernel_refresh=refresh)
    fit(tmp_path, joint, [callback])
    alone = seeded(Net)
    fit(tmp_path, alone)
    assert_same(weights(alone), weights(callback.twin))
    assert joint.kernel.ready


def test_a_module_whose_kernel_layer_was_taken_out_trains_as_without_it(tmp_path):
    joint, alone = seeded(Kernel, kernel_landmarks=20), seeded(Net)
    joint.attach()
    joint.detach_kernel()
    fit(tmp_path, joint)
    fit(tmp_path, alone)
    assert_same(weights(alone), weights(joint))


def test_a_rate_of_nothing_costs_nothing(tmp_path):
    joint, callback = seeded(Joint, turn_over_rate=1e-9), PlainTwin(on_error="raise")
    trainer = fit(tmp_path, joint, [callback])
    assert_same(weights(joint), weights(callback.twin))
    assert callback.twin.turn_over_dropout.plain
    assert not joint.turn_over_dropout.plain
    logged = trainer.callback_metrics
    assert logged["interpret/twin/cost"] == 0
    assert logged["interpret/twin/accuracy"] > 0.5
    loss = F.cross_entropy(joint.eval()({"pixels": digits()[1]["pixels"][:110]}), digits()[1]["labels"][:110])
    assert logged["interpret/twin/loss"].item() == pytest.approx(loss.item(), rel=1e-5)


def test_the_seed_says_what_the_twin_draws(tmp_path):
    found = []
    for seed in (0, 0, 1):
        callback = PlainTwin(seed=seed, on_error="raise")
        fit(tmp_path, seeded(Joint), [callback], max_epochs=1)
        found.append(callback.twin.first.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


# The run is the same with it and without it


class JointToy(TurnOverDropoutMixin, Toy):
    """A Toy that draws random numbers, writes into its buffers, and has a part that is frozen on purpose."""


class FailsAsTwin(JointToy):
    def training_step(self, batch, batch_idx):
        if self.turn_over_dropout.plain and batch_idx == 1:  # before the first validation
            torch.rand(3)
            raise RuntimeError("the twin is tired")
        return super().training_step(batch, batch_idx)


def twin(**options):
    return bracketed(PlainTwin(task=ToyTask(wordpiece()), **options))


@pytest.mark.parametrize(
    ("kind", "precision", "compiled"),
    [
        (JointToy, "32-true", None),
        (JointToy, "bf16-mixed", None),
        (FailsAsTwin, "32-true", None),
        pytest.param(JointToy, "32-true", "eager", marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:.*the twin is tired")
def test_training_is_the_same_with_the_twin(tmp_path, kind, precision, compiled):
    cell = Cell(module=kind, precision=precision, compiled=compiled, epochs=2)
    plain, _ = cell.run([], tmp_path)
    callback = twin(on_error="warn" if kind is FailsAsTwin else "raise")
    shown, trainer = cell.run([callback], tmp_path)
    shown["compiled"] = plain["compiled"]  # the twin's forward is its own
    assert len(plain["batches"]) > 8
    assert_same(plain, shown)
    assert ("interpret/twin/cost" in trainer.callback_metrics) == (kind is not FailsAsTwin)


def test_a_twin_that_fails_is_said_and_may_stop_the_run(tmp_path):
    with pytest.warns(UserWarning, match=r"the twin's training has ended \(RuntimeError: the twin is tired\)"):
        Cell(module=FailsAsTwin).run([callback := twin()], tmp_path)
    assert callback.twin is None
    with pytest.raises(RuntimeError, match="tired"):
        Cell(module=FailsAsTwin).run([twin(on_error="raise")], tmp_path)


def test_what_the_twin_logs_goes_nowhere(tmp_path):
    trainer = fit(tmp_path, seeded(Joint, turn_over_rate=0.9), [PlainTwin(on_error="raise")], max_epochs=1)
    without = fit(tmp_path, seeded(Joint, turn_over_rate=0.9), max_epochs=1)
    own = {name: value for name, value in trainer.callback_metrics.items() if not name.startswith("interpret/")}
    assert_same(own, without.callback_metrics)


# Resuming


def test_a_resumed_twin_goes_on(tmp_path):
    whole = PlainTwin(on_error="raise")
    fit(tmp_path, seeded(Joint, schedule="step"), [whole], max_epochs=2)
    saves = ModelCheckpoint(tmp_path / "kept", save_top_k=-1)
    fit(tmp_path, seeded(Joint, schedule="step"), [PlainTwin(on_error="raise"), saves], enable_checkpointing=True)
    first = next(path for path in (tmp_path / "kept").glob("*.ckpt") if "epoch=0" in path.name)
    again = PlainTwin(on_error="raise")
    fit(tmp_path, seeded(Joint, schedule="step"), [again], max_epochs=2, ckpt_path=first)
    assert_same(whole.twin.state_dict(), again.twin.state_dict())
    assert_same(whole.state_dict(), again.state_dict())


def test_a_checkpoint_without_a_twin_is_refused(tmp_path):
    saves = ModelCheckpoint(tmp_path / "kept")
    fit(tmp_path, seeded(Joint), [saves], max_epochs=1, enable_checkpointing=True)
    with pytest.raises(ValueError, match="written without it"):
        fit(tmp_path, seeded(Joint), [PlainTwin()], ckpt_path=saves.best_model_path)


# What is refused


def _manual(module):
    module.automatic_optimization = False
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(seeded, Net), "has no joint method"),
        (lambda: _manual(seeded(Joint)), "optimised by hand"),
        (partial(seeded, Joint, schedule="plateau"), "ReduceLROnPlateau"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_training(tmp_path, make, message):
    module = make()
    before = module.first.weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, module, [PlainTwin()])
    assert torch.equal(before, module.first.weight)


@pytest.fixture
def process_group():
    """Ends the process group that a Trainer opens in this process, and takes its port out of the environment."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.usefixtures("process_group")
def test_two_of_one_name_and_several_processes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="another name"):
        fit(tmp_path, seeded(Joint), [PlainTwin(name="saliency"), SaliencyMonitor()])
    with pytest.raises(ValueError, match=r"devices=1"):
        fit(tmp_path, seeded(Joint), [PlainTwin()], strategy="ddp")
    with pytest.raises(ValueError, match=r"`on_error='stop'`"):
        PlainTwin(on_error="stop")
