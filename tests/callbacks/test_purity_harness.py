"""The purity harness sees what a callback could disturb: each way is tried, and each must be found."""

import random
from itertools import count

import numpy
import pytest
import torch
from lightning.pytorch import Callback
from purity import MONITORS, Cell, assert_same, bracketed, crossed
from torch import nn

CELL = Cell()


def backward(trainer, module):
    with torch.enable_grad():
        module.head.weight.sum().backward()


def zero_grad(trainer, module):
    module.zero_grad()


def unfreeze(trainer, module):
    module.frozen.train()


def leave_a_gradient(trainer, module):
    module.frozen.weight.grad = torch.zeros(12)


def replace_a_weight_by_its_copy(trainer, module):
    weight = nn.Parameter(module.head.weight.detach().clone())
    weight.grad, module.head.weight = module.head.weight.grad, weight


def forget_the_optimizers_state(trainer, module):
    trainer.optimizers[0].state.clear()


def change_the_optimizers_state(trainer, module):
    for state in trainer.optimizers[0].state.values():
        state["exp_avg"].mul_(1.001)


def change_the_learning_rate(trainer, module):
    trainer.optimizers[0].param_groups[0]["lr"] *= 1.001


def step(trainer, module):
    trainer.optimizers[0].step()


def iterate_the_training_loader(trainer, module):
    next(iter(trainer.train_dataloader))


def put_hook_on_every_module(trainer, module):
    HANDLES.append(nn.modules.module.register_module_forward_hook(lambda *args: None))


HANDLES = []
NUMBERS = count()
DISTURBS = {
    "draws-from-torch": (lambda trainer, module: torch.rand(1), "random"),
    "draws-from-python": (lambda trainer, module: random.random(), "random"),
    "draws-from-numpy": (lambda trainer, module: numpy.random.rand(), "random"),
    "iterates-the-training-loader": (iterate_the_training_loader, "random"),
    "backward": (backward, "grads"),
    "zeroes-gradients": (zero_grad, "grads"),
    "leaves-a-gradient": (leave_a_gradient, "grads"),
    "forward-in-training": (lambda trainer, module: module.train(), "flags"),
    "unfreezes": (unfreeze, "flags"),
    "requires-no-gradient": (lambda trainer, module: module.head.bias.requires_grad_(False), "requires_grad"),
    "leaves-a-forward-hook": (lambda trainer, module: module.head.register_forward_hook(lambda *args: None), "hooks"),
    "leaves-a-pre-hook": (lambda trainer, module: module.head.register_forward_pre_hook(lambda *args: None), "hooks"),
    "leaves-a-backward-hook": (
        lambda trainer, module: module.head.register_full_backward_hook(lambda *args: None),
        "hooks",
    ),
    "leaves-a-hook-on-all": (put_hook_on_every_module, "hooks"),
    "leaves-a-hook-on-a-weight": (
        lambda trainer, module: module.head.weight.register_hook(lambda grad: grad),
        "tensor hooks",
    ),
    "leaves-an-attribute": (lambda trainer, module: setattr(module, f"left_{next(NUMBERS)}", 1), "attributes"),
    "touches-a-weight": (lambda trainer, module: module.head.weight.data.mul_(1.001), "tensors"),
    "touches-a-buffer": (lambda trainer, module: module.norm.running_mean.add_(0.001), "tensors"),
    "runs-a-forward-that-counts": (lambda trainer, module: module(torch.tensor([[5, 6]])), "tensors"),
    "replaces-a-weight": (replace_a_weight_by_its_copy, "objects"),
    "touches-the-optimizers-state": (change_the_optimizers_state, "optimizers"),
    "forgets-the-optimizers-state": (forget_the_optimizers_state, "optimizers"),
    "touches-the-learning-rate": (change_the_learning_rate, "optimizers"),
    "steps": (step, None),
    "leaves-a-switch": (lambda trainer, module: torch.backends.mha.set_fastpath_enabled(False), "modes"),
}


class Disturbs(Callback):
    """Does one thing at the end of each validation's last batch."""

    def __init__(self, what):
        self.what = what

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 5 and trainer.global_step:
            self.what(trainer, pl_module)


@pytest.fixture(autouse=True)
def _undone():
    yield
    while HANDLES:
        HANDLES.pop().remove()
    torch.backends.mha.set_fastpath_enabled(True)


@pytest.mark.parametrize("what", DISTURBS)
def test_a_callback_that_disturbs_is_seen_against_a_run_without_it(purity, what):
    shown, _ = CELL.run([Disturbs(DISTURBS[what][0])], purity.folder())
    with pytest.raises(AssertionError):
        assert_same(purity.plain(CELL), shown)


@pytest.mark.parametrize("what", DISTURBS)
def test_a_callback_that_disturbs_is_seen_in_its_hook_and_told_by_what(purity, what):
    disturb, place = DISTURBS[what]
    with pytest.raises(AssertionError, match=rf"on_validation_batch_end\.{place or ''}"):
        CELL.run([bracketed(Disturbs(disturb))], purity.folder())


def test_a_callback_that_logs_over_the_users_own_metric_is_seen(purity):
    class Overwrites(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("val_loss", 0.0)

    shown, _ = CELL.run([Overwrites()], purity.folder())
    with pytest.raises(AssertionError, match="metrics"):
        assert_same(purity.plain(CELL), shown)


def test_a_callback_that_does_nothing_passes(purity):
    shown, _ = CELL.run([bracketed(Disturbs(lambda trainer, module: None))], purity.folder())
    assert_same(purity.plain(CELL), shown)


def test_the_share_of_the_matrix_in_the_default_tests_has_every_way_and_every_monitor():
    ways = [f"way {i}" for i in range(12)]
    every = crossed(ways, slow=ways[:2])
    assert [param.values for param in every] == [(way, name) for way in ways for name in MONITORS]
    default = [param.values for param in every if not param.marks]
    assert {way for way, _ in default} == set(ways[2:])
    assert {name for _, name in default} == set(MONITORS)
    assert len(default) < len(every) / 4
