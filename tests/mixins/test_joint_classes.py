"""Joint methods in classes of every making: keywords are kept, layers are met whenever the module is complete."""

import copy
from abc import ABC, abstractmethod

import pytest
import torch
from joint_toys import LengthMixin, Plain, WeightMixin, loader, rows
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import VOCABULARY, quiet_trainer, wordpiece
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, default_collate

from lightning_interpret import TextClassifier, TurnOverDropoutMixin
from lightning_interpret.tasks.encode import encode

CONFIG = {
    "model_type": "bert",
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
SITES = (*(f"model.bert.encoder.layer.{i}.output.dense" for i in (0, 1)), "input of model.classifier")


class Texts(WeightMixin, TurnOverDropoutMixin, TextClassifier):
    pass


class Late(TurnOverDropoutMixin, Plain):
    """Its layers are made in ``configure_model``, and nothing is handed on there."""

    def __init__(self, **options):
        super().__init__(**options)
        del self.first, self.last

    def configure_model(self):
        if not hasattr(self, "first"):
            self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)


class HandsOn(Late):
    def configure_model(self):
        super().configure_model()


class Abstract(TurnOverDropoutMixin, LightningModule, ABC):
    """A user's base class: the mixin is here, the layers and the step are in what derives from it."""

    @abstractmethod
    def loss(self, batch): ...

    @abstractmethod
    def training_step(self, batch, batch_idx): ...

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Concrete(Abstract):
    def __init__(self):
        super().__init__(turn_over_rate=0.3)
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))

    def loss(self, batch):
        return F.cross_entropy(self.body(batch["x"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        self.add_term("more", torch.ones(()))
        return self.loss(batch)


def masked(module, batch):
    """Return whether the mask of each example changes what the module says of it."""
    module.eval()
    with torch.no_grad():
        plain = module(batch)
        with module.turn_over_dropout.seen(batch["example_id"]):
            return not torch.equal(module(batch), plain)


def text_loader():
    tokenizer = wordpiece()
    texts = ["a great film", "dull and bad movie .", "the play was good", "he is bad"]
    batch = encode(tokenizer, texts, labels=[1, 0, 1, 0])
    names = ("input_ids", "attention_mask", "labels")
    examples = [{name: batch[name][i] for name in names} | {"example_id": 5 + i} for i in range(4)]
    return DataLoader(examples, batch_size=2)


@pytest.mark.parametrize("kind", [Late, HandsOn])
def test_a_module_that_is_made_in_configure_model_is_attached_to_once(kind, tmp_path):
    module = kind()
    quiet_trainer(tmp_path, max_epochs=1).fit(module, loader())
    assert module.turn_over_dropout.sites == ("input of last",)
    hooks = sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())
    assert hooks == 1
    assert masked(module, default_collate(rows(4)))


def test_a_base_class_of_the_users_may_carry_the_mixin(tmp_path):
    with pytest.raises(TypeError, match="abstract"):
        Abstract()
    module = Concrete()
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, loader())
    assert trainer.callback_metrics["train_more"] == 1
    assert module.turn_over_dropout.rate == 0.3


def test_the_keywords_of_the_mixins_are_hyperparameters_and_come_back_with_the_checkpoint(tmp_path):
    module = Texts(
        config=CONFIG,
        labels=["bad", "good"],
        tokenizer=wordpiece(),
        turn_over_rate=0.25,
        turn_over_seed=3,
        weight_start=2.0,
    )
    assert module.turn_over_dropout.sites == ()  # `TextClassifier` builds its model in its own `__init__`
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(module, text_loader())
    assert module.turn_over_dropout.sites == SITES
    assert module.hparams["turn_over_rate"] == 0.25
    assert module.hparams["weight_start"] == 2.0
    trainer.save_checkpoint(tmp_path / "joint.ckpt")
    loaded = Texts.load_from_checkpoint(tmp_path / "joint.ckpt")
    assert loaded.hparams["turn_over_seed"] == 3
    assert (loaded.turn_over_dropout.rate, loaded.turn_over_dropout.seed) == (0.25, 3)
    assert loaded.turn_over_dropout.sites == SITES
    assert torch.equal(loaded.weight_child.weight, module.weight_child.weight)
    assert module.weight_child.weight.item() != 2.0
    batch = next(iter(text_loader()))
    assert masked(loaded, batch)
    with torch.no_grad(), loaded.turn_over_dropout.seen(batch["example_id"]):
        said = loaded.eval()(batch)
    with torch.no_grad(), module.turn_over_dropout.seen(batch["example_id"]):
        assert torch.equal(module.eval()(batch), said)


def test_a_users_own_save_hyperparameters_sees_every_keyword(tmp_path):
    class Saves(TurnOverDropoutMixin, Plain):
        def __init__(self, hidden=5, **options):
            super().__init__(hidden=hidden, **options)
            self.save_hyperparameters()

    module = Saves(hidden=7, turn_over_rate=0.75)
    assert dict(module.hparams) == {"hidden": 7, "turn_over_rate": 0.75}
    trainer = quiet_trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[ModelCheckpoint(tmp_path)])
    trainer.fit(module, loader())
    loaded = Saves.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    assert loaded.turn_over_dropout.rate == 0.75
    assert masked(loaded, default_collate(rows(4)))


def test_a_class_that_is_made_while_the_program_runs_trains(tmp_path):
    made = type("Made", (TurnOverDropoutMixin, LengthMixin, Plain), {"extra": 1})
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(made(), loader())
    assert "train_length" in trainer.callback_metrics


def test_a_copy_masks_by_its_own_dropout():
    module = Late()
    module.configure_model()
    other, batch = copy.deepcopy(module), default_collate(rows(4))
    plain = module.eval()(batch)
    with other.turn_over_dropout.seen(batch["example_id"]):
        assert not torch.equal(other.eval()(batch), plain)
        assert torch.equal(module(batch), plain)


def test_a_step_that_draws_its_batches_says_which_it_has_drawn(tmp_path):
    class Iterates(WeightMixin, TurnOverDropoutMixin, Plain):
        def training_step(self, dataloader_iter):
            batch, _, _ = next(dataloader_iter)
            self.begin_step(batch)
            return self.loss(batch)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            super().on_train_batch_end(outputs, batch, batch_idx)

    class Ordinary(WeightMixin, TurnOverDropoutMixin, Plain):
        pass

    losses = []
    for kind in (Iterates, Ordinary):
        torch.manual_seed(0)
        module = kind()
        quiet_trainer(tmp_path, max_epochs=2).fit(module, loader())
        losses.append(module.losses)
    assert losses[0] == losses[1]
    assert len(losses[0]) == 6
