"""Generated explanations beside turn-over dropout: one mask an example, however many labels are scored of it."""

import pytest
import torch
from generated_toys import (
    LABELS,
    MODELS,
    Explaining,
    Own,
    batch_of,
    explaining_model,
    loader,
    made,
    word_tokenizer,
)
from lightning.pytorch.callbacks import ModelCheckpoint
from purity import assert_same, state_of
from tiny import quiet_trainer
from turn_over import by_hand

from lightning_interpret import (
    GeneratedRationaleMixin,
    GeneratedTextClassifier,
    TurnOverDropoutInfluence,
    TurnOverDropoutMixin,
)
from lightning_interpret.modules.portable import config_values

SHORT = {"length": (2, 3)}


class Inner(TurnOverDropoutMixin, Explaining):
    """Turn-over dropout first."""


class Outer(GeneratedRationaleMixin, TurnOverDropoutMixin, Own):
    """Explanations first."""


both = pytest.mark.parametrize("kind", [Inner, Outer])
models = pytest.mark.parametrize("name", ["t5", "gpt2"])
orders = pytest.mark.parametrize("order", ["predict_then_explain", "explain_then_predict", "jointly"])


def made_of(kind, name="t5", order="predict_then_explain", seed=0):
    module = kind(name=name, seed=seed, generated_order=order, generated_max_tokens=5)
    module.configure_model()
    return module


@both
@models
@orders
def test_each_example_has_its_own_mask_for_every_label(kind, name, order):
    module = made_of(kind, name, order).double().train()
    words, labels, explanations = made(3, **SHORT)
    batch = batch_of(words, labels, explanations)
    together = gradients_of(module, batch)
    take = module.interpret_task().take
    alone = [gradients_of(module, take(batch, torch.tensor([i]))) for i in range(3)]
    for key, value in together.items():
        mean = torch.stack([each[key] for each in alone]).mean(dim=0)
        assert torch.allclose(value, mean, rtol=0, atol=1e-6), key  # T5 has norms in single precision
    assert not module.turn_over_dropout.idle


def gradients_of(module, batch):
    module.zero_grad()
    module.training_step(batch, 0).backward()
    module.turn_over_dropout.begin(None)
    return {name: weight.grad.clone() for name, weight in module.named_parameters()}


@both
@pytest.mark.parametrize("order", ["explain_then_predict", "jointly"])
def test_a_run_is_resumed_to_the_bit_and_explains_without_masks(kind, order, tmp_path):
    given = loader(24, batch_size=8, **SHORT), loader(8, seed=1, batch_size=8, **SHORT)
    keeps = ModelCheckpoint(tmp_path, filename="middle", save_top_k=1, every_n_epochs=1)
    whole, half, again = (made_of(kind, order=order, seed=seed) for seed in (0, 0, 7))
    quiet_trainer(tmp_path, max_epochs=2).fit(whole, *given)
    quiet_trainer(tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[keeps]).fit(half, *given)
    quiet_trainer(tmp_path, max_epochs=2).fit(again, *given, ckpt_path=tmp_path / "middle.ckpt")
    assert_same(whole.state_dict(), again.state_dict())
    assert whole.losses[3:] == again.losses
    batch, bare = batch_of(*made(3, **SHORT)), explaining_model(order=order, generated_max_tokens=5)
    bare.load_state_dict({k: v for k, v in again.state_dict().items() if not k.startswith("turn_over")})
    before = state_of(again.eval())
    assert again.explain(batch) == whole.eval().explain(batch) == bare.explain(batch)
    assert_same(before, state_of(again), objects=True)


@models
def test_influence_is_that_of_two_forwards_a_pair(name):
    module = made_of(Inner, name).double().eval()
    texts, queries = (batch_of(*made(count, seed, **SHORT)[:2]) for count, seed in ((6, 0), (3, 1)))
    task = module.interpret_task()
    fitted = TurnOverDropoutInfluence(shortlist="all").fit(module, [texts], task)
    ids, scores = fitted.matrix(queries)
    assert torch.allclose(scores, by_hand(module, task, ids.tolist(), queries), rtol=0, atol=1e-9)
    assert scores.abs().max() > 1e-6


class Texts(TurnOverDropoutMixin, GeneratedTextClassifier):
    """The classifier of the package, with both."""


def test_a_classifier_of_texts_has_both_and_is_what_its_checkpoint_says(tmp_path):
    torch.manual_seed(0)
    config, named = config_values(MODELS["t5"]().config), {"labels": LABELS, "tokenizer": word_tokenizer()}
    module = Texts(config=config, **named, generated_order="jointly", generated_max_tokens=5)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, loader(16, batch_size=8, **SHORT), loader(8, seed=1, batch_size=8, **SHORT))
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    again = Texts.load_from_checkpoint(tmp_path / "it.ckpt")
    assert_same(module.state_dict(), again.state_dict())
    assert again.turn_over_dropout.sites == module.turn_over_dropout.sites != ()
    batch = batch_of(*made(3, **SHORT))
    assert again.eval().explain(batch) == module.eval().explain(batch)
    seen = []
    for each in (module, again):
        with torch.no_grad(), each.turn_over_dropout.seen(batch["example_id"]):
            seen.append(each(batch))
    with torch.no_grad():
        assert torch.equal(*seen)
        assert not torch.equal(seen[0], module(batch))
