"""Case 14: joint methods on one module: terms are counted once, in any order, and nothing of a step is left behind."""

import copy
import pickle

import pytest
import torch
from joint_toys import LengthMixin, Plain, WeightMixin, loader, rows
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tiny import quiet_trainer
from torch.utils.data import default_collate

from lightning_interpret import JointMixin, TextClassifier, TurnOverDropoutMixin


class Both(WeightMixin, LengthMixin, Plain):
    pass


class Reversed(LengthMixin, WeightMixin, Plain):
    pass


class Explicit(Both):
    def training_step(self, batch, batch_idx):
        return self.loss(batch) + self.auxiliary_loss()


class Outer(Both):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class OfExplicit(Explicit):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


class Dict(Both):
    def training_step(self, batch, batch_idx):
        return {"loss": self.loss(batch), "more": 1}


def fit(kind, tmp_path, epochs=2, batch_size=4, validate=False, **options):
    """Fit a module from the same weights, whatever its class draws for its own, and return it."""
    torch.manual_seed(0)
    start = Plain().state_dict()
    module = kind()
    module.load_state_dict({**module.state_dict(), **start})
    trainer = quiet_trainer(tmp_path, max_epochs=epochs, **options)
    trainer.fit(module, loader(batch_size), loader() if validate else None)
    return module


def weights(module):
    return {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}


def equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", [Reversed, Explicit, Outer, OfExplicit, Dict])
def test_losses_and_weights_are_the_same_in_any_order_and_however_the_terms_are_added(kind, tmp_path):
    expected, found = fit(Both, tmp_path), fit(kind, tmp_path)
    assert found.losses == expected.losses
    assert equal(weights(found), weights(expected))
    assert expected.losses != fit(Plain, tmp_path).losses


def test_the_loss_is_the_modules_own_and_each_term_once(tmp_path):
    module = fit(Both, tmp_path, epochs=1)
    fresh, batch = Both(), default_collate(rows(4))
    fresh.load_state_dict(module.state_dict())
    own = fresh.loss(batch)
    length = 0.1 * fresh.first(batch["x"]).square().mean()
    weight = (fresh.weight_child.weight - 1).square().mean()
    assert torch.allclose(fresh.training_step(batch, 0), own + length + weight, rtol=0, atol=1e-7)
    assert fresh.auxiliary_loss() == 0.0


def test_terms_are_scaled_as_the_loss_is_under_accumulation(tmp_path):
    whole = fit(Both, tmp_path, batch_size=12)
    parts = fit(Both, tmp_path, batch_size=4, accumulate_grad_batches=3)
    for name, value in weights(whole).items():
        assert torch.allclose(value, weights(parts)[name], rtol=0, atol=1e-6), name


def test_each_term_is_logged(tmp_path):
    module = Both()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, loader(), loader())
    assert {"train_weight", "train_length", "val_loss"} <= trainer.callback_metrics.keys()
    assert trainer.callback_metrics["train_length"] > 0


class Skips(Both):
    def training_step(self, batch, batch_idx):
        return None if batch_idx == 1 else self.loss(batch)


def test_a_step_that_skips_its_batch_leaves_no_terms(tmp_path):
    module, whole = fit(Skips, tmp_path, epochs=1), fit(Both, tmp_path, epochs=1)
    assert (module._terms, module.losses[0], module.losses[1]) == ({}, whole.losses[0], None)


@pytest.mark.parametrize("returns", ["nothing", "the loss"])
def test_manual_optimisation_with_pending_terms_is_refused_by_their_names(returns, tmp_path):
    class Manual(Both):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss if returns == "the loss" else None

    with pytest.raises(RuntimeError, match=r"pending .*: weight, length\. Add `self.auxiliary_loss\(\)`"):
        fit(Manual, tmp_path)


@pytest.mark.parametrize("base", [LightningModule, TextClassifier, Plain])
def test_bases_in_the_wrong_order_are_refused_with_the_right_one(base):
    with pytest.raises(TypeError, match=rf"`class Wrong\(TurnOverDropoutMixin, {base.__name__}\)`, mixins first"):
        type("Wrong", (base, TurnOverDropoutMixin), {})
    with pytest.raises(TypeError, match=rf"`class Wrong\(LengthMixin, WeightMixin, {base.__name__}\)`"):
        type("Wrong", (LengthMixin, base, WeightMixin), {})
    with pytest.raises(TypeError, match=rf"`class Wrong\(JointMixin, {base.__name__}\)`"):
        type("Wrong", (base, JointMixin), {})


def test_a_module_of_the_other_lightning_package_is_refused():
    other = type("LightningModule", (), {"__module__": "pytorch_lightning.core.module"})
    with pytest.raises(TypeError, match=r"import LightningModule and Trainer from `lightning\.pytorch`"):
        type("Wrong", (WeightMixin, other), {})


def test_a_mixin_may_be_added_to_a_module_that_has_one():
    module = type("More", (type("Has", (WeightMixin, Plain), {}), LengthMixin), {})()
    assert "length" in terms_of(module)


def terms_of(module):
    """Return the names of the terms that one step records."""
    found, log = [], module.auxiliary_loss
    module.auxiliary_loss = lambda: (found.extend(module._terms), log())[1]
    module.configure_model()
    module.training_step(default_collate(rows(4)), 0)
    return found


def test_a_missing_training_step_is_reported_by_lightning(tmp_path):
    class Stepless(WeightMixin, LightningModule):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(MisconfigurationException, match=r"No `training_step\(\)` method defined"):
        quiet_trainer(tmp_path, max_epochs=1).fit(Stepless(), loader())


@pytest.mark.parametrize("mixin", [JointMixin, *JointMixin.__subclasses__()], ids=lambda mixin: mixin.__name__)
def test_a_mixin_has_no_forward_and_no_step_of_its_own(mixin):
    assert not {"forward", "training_step", "validation_step", "test_step", "predict_step"} & vars(mixin).keys()


def test_a_keyword_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="lenght_cost"):
        type("Module", (WeightMixin, LengthMixin, LightningModule), {})(lenght_cost=1.0)


def test_an_exception_in_a_step_leaves_nothing_behind():
    class Fails(Both):
        def training_step(self, batch, batch_idx):
            self.loss(batch)
            raise KeyError("of the user's")

    module = Fails()
    module.configure_model()
    with pytest.raises(KeyError, match="of the user's"):
        module.training_step(default_collate(rows(4)), 0)
    assert (module._terms, module._steps) == ({}, 0)


def test_a_term_is_kept_in_a_training_step_alone(tmp_path):
    class Eager(Both):
        def validation_step(self, batch, batch_idx):
            self.add_term("of validation", self.loss(batch))
            self.train()
            self.add_term("of validation", self.loss(batch))
            assert self.auxiliary_loss() == 0.0
            self.eval()

    assert fit(Eager, tmp_path, validate=True).losses == fit(Both, tmp_path).losses


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "but is None"), (0.5, "but is 0.5"), (torch.ones(3), r"but is a tensor of shape \(3,\)")],
)
def test_a_term_that_is_no_scalar_is_refused_by_name(value, said):
    with pytest.raises(ValueError, match=rf"The term 'sparsity' of the loss .*{said}"):
        Both().add_term("sparsity", value)


def test_a_term_that_is_nan_is_refused_by_name(tmp_path):
    class Wrong(Both):
        def training_step(self, batch, batch_idx):
            self.add_term("sparsity", torch.tensor(float("nan")))
            return self.loss(batch)

    with pytest.raises(ValueError, match=r"are NaN.*: sparsity"):
        fit(Wrong, tmp_path)


def test_terms_of_one_name_are_added_up():
    class Twice(WeightMixin, Plain):
        def training_step(self, batch, batch_idx):
            self.add_term("more", torch.tensor(1.0))
            self.add_term("more", torch.tensor(2.0))
            taken = self.auxiliary_loss()
            self.add_term("more", torch.tensor(4.0))
            return 10 * taken

    assert Twice().training_step(default_collate(rows(4)), 0).item() == 44.0  # 10 · (1 + 2 + 1 of the weight) + 4


def test_a_step_that_is_inherited_from_two_sides_is_the_one_python_finds():
    class Other(Plain):
        def training_step(self, batch, batch_idx):
            return torch.tensor(7.0)

    joint = type("Joint", (WeightMixin, Plain), {})
    module = type("Diamond", (joint, Other), {})(hidden=3)
    assert module.training_step(default_collate(rows(4)), 0).item() == 8.0  # with the term of (0 − 1)²


def test_keywords_of_the_users_step_may_be_called_by_name():
    class Named(WeightMixin, Plain):
        def training_step(self, batch, batch_idx=0):
            return self.loss(batch)

    assert Named().training_step(batch=default_collate(rows(4))).dim() == 0


def test_a_copy_and_a_pickle_are_modules_of_their_own():
    for made in (copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))):
        module = Both()
        module.configure_model()
        other = made(module)
        other.length_cost = 5.0
        batch = default_collate(rows(4))
        assert other.training_step(batch, 0) > module.training_step(batch, 0)
        assert module._terms == other._terms == {}
