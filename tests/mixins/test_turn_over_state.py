"""Turn-over dropout in checkpoints and copies: the same masks when training goes on, and none when it is taken out."""

import copy
import warnings

import pytest
import torch
from joint_toys import Plain, loader, rows
from lightning.pytorch.callbacks import WeightAveraging
from tiny import quiet_trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from lightning_interpret import TurnOverDropoutMixin


class Net(TurnOverDropoutMixin, Plain):
    pass


class Deeper(Net):
    def __init__(self, **options):
        super().__init__(**options)
        self.middle = nn.Linear(6, 6)
        self.last = nn.Linear(6, 2)

    def forward(self, batch):
        return self.last(F.relu(self.middle(F.relu(self.first(batch["x"])))))


def seeded(kind=Net, **options):
    torch.manual_seed(0)
    return kind(**options)


def fit(folder, module, epochs=2, **options):
    trainer = quiet_trainer(folder, max_epochs=epochs, **options)
    trainer.fit(module, loader(), ckpt_path=options.pop("ckpt_path", None))
    return trainer


def unseen(module):
    batch = default_collate(rows(4))
    with torch.no_grad(), module.turn_over_dropout.unseen(batch["example_id"]):
        return module.eval()(batch)


def test_training_goes_on_with_the_same_masks(tmp_path):
    whole = seeded()
    fit(tmp_path, whole)
    begun, resumed = seeded(), Net()
    fit(tmp_path, begun, 1).save_checkpoint(tmp_path / "half.ckpt")
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(resumed, loader(), ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(resumed.last.weight, whole.last.weight)
    assert torch.equal(unseen(resumed), unseen(whole))
    assert begun.losses + resumed.losses == whole.losses


def test_rate_seed_and_places_are_those_of_the_checkpoint_and_what_differs_is_said(tmp_path):
    trained = seeded(Deeper, turn_over_layers=["first", "input of last"], turn_over_rate=0.3, turn_over_seed=5)
    fit(tmp_path, trained, 1).save_checkpoint(tmp_path / "t.ckpt")
    with pytest.warns(UserWarning, match="Turn-over dropout: its rate is that of the checkpoint") as said:
        loaded = Deeper.load_from_checkpoint(tmp_path / "t.ckpt")
    told = [str(each.message) for each in said if "Turn-over" in str(each.message)]
    assert [any(word in message for message in told) for word in ("at first, input of last", "its rate", "its seed")]
    assert len(told) == 3
    assert loaded.turn_over_dropout.sites == ("first", "input of last")
    assert torch.equal(unseen(loaded), unseen(trained))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Deeper.load_from_checkpoint(
            tmp_path / "t.ckpt",
            turn_over_layers=["input of last", "first"],
            turn_over_rate=0.3,
            turn_over_seed=5,
        )


def test_a_checkpoint_of_a_plain_module_is_loaded_and_that_is_said_once(tmp_path):
    plain = Plain()
    fit(tmp_path, plain, 1).save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.warns(UserWarning, match="of a module that was trained without") as said:
        loaded = Net.load_from_checkpoint(tmp_path / "plain.ckpt")
    assert len([each for each in said if "Turn-over" in str(each.message)]) == 1
    assert torch.equal(loaded.last.weight, plain.last.weight)
    assert loaded.turn_over_dropout.sites == ("input of last",)


def test_a_module_that_it_was_taken_out_of_is_the_plain_one(tmp_path):
    module, plain = seeded(), seeded(Plain)
    module.attach()
    module.detach_turn_over_dropout()
    fit(tmp_path, module)
    fit(tmp_path, plain)
    assert module.turn_over_dropout.sites == ()
    assert module.losses == plain.losses
    state = module.state_dict()
    assert state.keys() == plain.state_dict().keys()
    assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())
    plain.load_state_dict(state)
    module.load_state_dict(plain.state_dict())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    module.attach_turn_over_dropout()
    assert module.turn_over_dropout.sites == ("input of last",)
    fit(tmp_path, module, 1)


def test_an_averaged_copy_masks_by_its_own_dropout(tmp_path):
    class Average(WeightAveraging):
        def should_update(self, step_idx=None, epoch_idx=None):
            return True

    module, inner = seeded(), None

    class Looks(Average):
        def on_train_epoch_end(self, trainer, pl_module):
            nonlocal inner
            inner = copy.deepcopy(self._average_model.module)
            super().on_train_epoch_end(trainer, pl_module)

    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=[Looks()])
    trainer.fit(module, loader(), loader())
    trainer.save_checkpoint(tmp_path / "average.ckpt")
    batch = default_collate(rows(4))
    for each in (inner, module):
        with torch.no_grad():
            plain = each.eval()(batch)
        assert not torch.equal(unseen(each), plain)
    with torch.no_grad(), module.turn_over_dropout.unseen(batch["example_id"]):
        assert torch.equal(inner(batch), inner.last(F.relu(inner.first(batch["x"]))))  # is not masked by the other's
    loaded = Net.load_from_checkpoint(tmp_path / "average.ckpt")
    assert torch.equal(unseen(loaded), unseen(module))


def test_masks_are_the_same_where_gradients_accumulate(tmp_path):
    losses = []
    for accumulate in (1, 2):
        module = seeded()
        module.configure_optimizers = lambda module=module: torch.optim.SGD(module.parameters(), lr=0.0)
        trainer = quiet_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=accumulate)
        trainer.fit(module, loader())
        losses.append(module.losses)
    assert losses[0] == pytest.approx([2 * loss for loss in losses[1]])  # of which half is taken each time
