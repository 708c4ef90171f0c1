"""Case 13: a model learns to say the word it went by, and what it says decides; and the ways to train."""

import copy

import pytest
import torch
from generated_toys import LABELS, Explaining, Own, batch_of, loader, made
from lightning.pytorch.callbacks import ModelCheckpoint
from purity import assert_same
from tiny import quiet_trainer
from torch.optim.swa_utils import get_ema_avg_fn

SHORT = {"length": (2, 3)}
ORDERS = ["predict_then_explain", "explain_then_predict", "jointly"]


def learnt(folder, name="t5", *, epochs=6, rows=1024, seed=0, rate=5e-3, **options):
    module = Explaining(name=name, seed=seed, rate=rate, generated_max_tokens=6, generated_validated=128, **options)
    trainer = quiet_trainer(folder, max_epochs=epochs, check_val_every_n_epoch=epochs, num_sanity_val_steps=0)
    torch.manual_seed(seed)
    trainer.fit(module, loader(rows, seed=seed, shuffle=True), loader(128, seed=100, batch_size=128))
    texts, labels, explanations = made(256, 200)
    rows = module.explain(batch_of(texts, labels, explanations))
    exact = sum(row.explanation == row.gold_explanation for row in rows) / len(rows)
    accuracy = sum(row.prediction == row.gold for row in rows) / len(rows)
    return exact, accuracy, {name: float(value) for name, value in trainer.callback_metrics.items()}


def test_a_label_is_predicted_and_explained_by_the_word_that_it_went_by(tmp_path):
    exact, accuracy, seen = learnt(tmp_path, generated_order="predict_then_explain")
    assert exact >= 0.95
    assert accuracy >= 0.95
    assert seen["generated/overlap"] >= seen["generated/shuffled_overlap"] + 0.15


def test_an_explanation_that_is_read_decides_the_label(tmp_path):
    exact, accuracy, seen = learnt(tmp_path, generated_order="explain_then_predict")
    assert exact >= 0.95
    assert accuracy >= 0.95
    assert seen["generated/shuffled_accuracy"] <= 0.45
    assert seen["generated/erased"] <= seen["generated/probability"] - 0.4
    assert seen["generated/overlap"] >= seen["generated/shuffled_overlap"] + 0.15


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_each_order_says_the_word_that_it_went_by(order, seed, tmp_path):
    exact, accuracy, seen = learnt(tmp_path, epochs=12, seed=seed, generated_order=order)
    assert exact >= 0.95
    assert accuracy >= 0.95
    assert seen["generated/overlap"] >= 0.95
    if order == "explain_then_predict":
        assert seen["generated/shuffled_accuracy"] <= 0.45
    else:
        assert "generated/erased" not in seen


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bart", "gpt2", "llama"])
def test_other_models_learn_it_too(name, tmp_path):
    exact, accuracy, seen = learnt(
        tmp_path, name, epochs=30, rows=1536, rate=3e-3, generated_order="explain_then_predict"
    )
    assert exact >= 0.95
    assert accuracy >= 0.95
    assert seen["generated/shuffled_accuracy"] <= 0.45


def run(folder, module=None, order="explain_then_predict", train=None, made_with=None, **options):
    torch.manual_seed(0)
    made_with = made_with or {}
    module = module or Explaining(generated_order=order, generated_max_tokens=5, **made_with)
    trainer = quiet_trainer(folder, **{"max_epochs": 2} | options)
    trainer.fit(module, train or loader(48, batch_size=8, **SHORT), loader(8, seed=1, batch_size=8, **SHORT))
    return module, trainer


def assert_close(one, other, tolerance):
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=tolerance), name


@pytest.mark.parametrize("order", ORDERS)
def test_a_run_that_is_resumed_is_one_that_was_not_interrupted(order, tmp_path):
    whole, _ = run(tmp_path, order=order)
    keeps = ModelCheckpoint(tmp_path, filename="middle", save_top_k=1, every_n_epochs=1)
    run(tmp_path, order=order, max_epochs=1, enable_checkpointing=True, callbacks=[keeps])
    again = Explaining(generated_order=order, generated_max_tokens=5, seed=7)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    loaders = loader(48, batch_size=8, **SHORT), loader(8, seed=1, batch_size=8, **SHORT)
    trainer.fit(again, *loaders, ckpt_path=tmp_path / "middle.ckpt")
    assert_same(whole.state_dict(), again.state_dict())
    assert whole.losses[6:] == again.losses


def test_accumulated_gradients_are_those_of_one_batch(tmp_path):
    plain = {"optimizer": torch.optim.SGD, "rate": 0.1}
    parts, _ = run(tmp_path, made_with=plain, accumulate_grad_batches=3)
    whole, _ = run(tmp_path, made_with=plain, train=loader(48, batch_size=24, **SHORT))
    assert_close(parts, whole, 1e-5)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_learns_the_same(precision, tmp_path):
    usual, _ = run(tmp_path)
    module, trainer = run(tmp_path, precision=precision)
    assert module.losses == pytest.approx(usual.losses, rel=0.1)
    assert trainer.callback_metrics["generated/probability"].isfinite()
    assert all(value.dtype == torch.long for value in module.generated.buffers())
    row = module.explain(batch_of(*made(1)))[0]
    assert row.prediction in LABELS


@pytest.mark.slow
def test_compiled_training_is_the_same(tmp_path):
    usual, _ = run(tmp_path, order="jointly", max_epochs=1)
    torch._dynamo.reset()
    module = Explaining(generated_order="jointly", generated_max_tokens=5)
    torch.manual_seed(0)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    compiled = torch.compile(module, backend="eager")
    trainer.fit(compiled, loader(48, batch_size=8, **SHORT), loader(8, seed=1, batch_size=8, **SHORT))
    assert module.losses == pytest.approx(usual.losses, abs=1e-4)


def test_averaged_weights_write_with_a_copy_of_their_own(tmp_path):
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging").WeightAveraging
    usual, _ = run(tmp_path, max_epochs=1)
    with pytest.warns(UserWarning, match="configure_model"):
        module, _ = run(tmp_path, max_epochs=1, callbacks=[averaging(avg_fn=get_ema_avg_fn(0.9))])
    assert module.losses == usual.losses
    again = copy.deepcopy(usual)
    batch = batch_of(*made(3, **SHORT))
    before = usual.explain(batch)
    with torch.no_grad():
        for weight in again.parameters():
            weight.zero_()
    again.explain(batch)
    assert usual.explain(batch) == before


class ByHand(Explaining):
    def __init__(self, **options):
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        loss = Own.training_step(self, batch, batch_idx) + self.auxiliary_loss()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.losses.append(loss.item())

    def on_train_batch_end(self, outputs, batch, batch_idx):
        pass


def test_manual_optimisation_adds_the_same_term(tmp_path):
    usual, _ = run(tmp_path, max_epochs=1)
    torch.manual_seed(0)
    module, _ = run(tmp_path, ByHand(generated_order="explain_then_predict", generated_max_tokens=5), max_epochs=1)
    assert module.losses == usual.losses
