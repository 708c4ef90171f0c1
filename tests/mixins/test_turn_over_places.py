"""Turn-over dropout where layers do not run, are called by keyword, or a kernel layer stands before the head."""

import pytest
import torch
from joint_toys import Plain, loader
from kernel_toys import Plain as Classes
from kernel_toys import loader as class_loader
from tiny import quiet_trainer
from torch import nn

from lightning_interpret import KernelMixin, TurnOverDropoutMixin
from lightning_interpret.layers import TurnOverDropout


class Both(TurnOverDropoutMixin, KernelMixin, Classes):
    pass


class BothAgain(KernelMixin, TurnOverDropoutMixin, Classes):
    pass


def fit(model, folder, data=None, epochs=1):
    quiet_trainer(folder, max_epochs=epochs).fit(model, loader() if data is None else data)


class Spare(TurnOverDropoutMixin, Plain):
    def __init__(self, **options):
        super().__init__(**options)
        self.spare = nn.Linear(6, 6)


def test_a_layer_that_does_not_run_is_told_once_and_where_none_does_training_ends(tmp_path):
    with pytest.warns(UserWarning, match="nothing has come through 'spare'") as told:
        fit(Spare(turn_over_layers=["input of last", "spare"]), tmp_path, epochs=2)
    assert sum("come through" in str(each.message) for each in told) == 1
    with pytest.raises(ValueError, match="nothing has come through 'spare'"):
        fit(Spare(turn_over_layers=["spare"]), tmp_path)


@pytest.mark.parametrize("kind", [Both, BothAgain])
def test_what_a_kernel_layer_returns_is_masked_in_any_order_of_bases(kind, tmp_path):
    torch.manual_seed(0)
    model = kind(kernel_landmarks=8)
    fit(model, tmp_path, class_loader(), epochs=2)
    assert model.turn_over_dropout.sites == ("input of last",)
    batch = next(iter(class_loader()))
    given = []
    model.last.register_forward_pre_hook(lambda part, args: given.append(args[0]))
    with torch.no_grad(), model.turn_over_dropout.seen(batch["example_id"]):
        model.eval()(batch)
    factors = model.turn_over_dropout.factors("input of last", batch["example_id"], 8)
    assert torch.equal(given[0] == 0, factors == 0)


@pytest.mark.parametrize("kind", [Both, BothAgain])
def test_masks_follow_a_head_that_was_put_back(kind, tmp_path):
    model = kind(kernel_landmarks=8)
    fit(model, tmp_path, class_loader())
    model.detach_kernel()
    model.train()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    hook = []
    model.last.register_forward_pre_hook(lambda part, args: hook.append(len(part._forward_pre_hooks)))
    trainer.fit(model, class_loader())
    assert hook[-1] == 2  # the one above and the mask


class Keyword(nn.Module):
    """A module that calls its head by keyword."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 2, bias=False)

    def forward(self, x):
        return self.head(input=x)


def test_what_a_layer_is_given_by_keyword_is_masked():
    net, dropout, ids = Keyword(), TurnOverDropout().eval(), torch.tensor([4, 5])
    dropout.attach(net, ["input of head"])
    x = torch.randn(2, 6)
    with torch.no_grad(), dropout.seen(ids):
        found = net(x)
    assert torch.equal(found, net.head(x * dropout.factors("input of head", ids, 6)).detach())
