"""A module is after an explanation what it was before: flags, gradients, hooks, buffers, weights, random states."""

import random
import threading

import numpy
import pytest
import torch
from tiny import Bag, BagTask, bag_task, batch_of, wordpiece
from torch import nn

from lightning_interpret import Gradient, IntegratedGradients
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods import METHODS as REGISTRY
from lightning_interpret.methods.attention import AttentionMethod
from lightning_interpret.tasks import batches

#: Options that make a method quick here; every method of the registry is tried, but those of attention, which is not in
#: every layer: see `test_attention.py`.
OPTIONS = {
    "expected_gradients": {"samples": 4},
    "kernel_shap": {"samples": 60},
    "lime": {"samples": 60},
    "sequential_integrated_gradients": {"steps": 2, "tolerance": None},
    "smooth_grad": {"samples": 3},
}
METHODS = [
    method(**OPTIONS.get(name, {})) for name, method in REGISTRY.items() if not issubclass(method, AttentionMethod)
]
METHODS += [REGISTRY["layer_cam"](repaired=True)]
METHODS += [REGISTRY["integrated_gradients"](baseline=baseline) for baseline in ("uniform", "nearest", "training_mean")]


class Stateful(nn.Module):
    """What training leaves in a module: an LSTM, running statistics, dropout, a buffer changed in place, noise."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(6, 3, num_layers=2, bidirectional=True, dropout=0.1, batch_first=True)
        self.norm, self.dropout = nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(1))
        self.raise_at = None

    def forward(self, hidden):
        self.calls += 1
        if self.raise_at is not None and self.calls >= self.raise_at:
            raise RuntimeError("in the middle")
        noise = torch.rand(1) + random.random() + float(numpy.random.rand())
        hidden = self.dropout(self.lstm(hidden)[0]) + 0 * noise.to(hidden.dtype)
        return self.norm(hidden.transpose(1, 2)).transpose(1, 2)


def built(dtype=torch.float32):
    """A module in the middle of training: some gradients accumulated, some parts frozen."""
    model, task = Bag(Stateful()).to(dtype), bag_task()
    model.train()
    model.middle.norm.eval()
    model.head.weight.requires_grad_(False)
    batch = batch_of(task.tokenizer)
    task.logits(model, batch).sum().backward()
    model.hidden.weight.grad = None
    return model, task, batch


def state_of(model):
    """Everything that an explanation must leave as it is; tensors by identity, version and value."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    gradients = {
        name: (weight.grad, weight.grad is not None and weight.grad.clone()) for name, weight in tensors.items()
    }
    return {
        "training": {name: part.training for name, part in model.named_modules()},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "objects": {name: (id(tensor), type(tensor), tensor._version) for name, tensor in tensors.items()},
        "grad_objects": {name: id(grad) for name, (grad, _) in gradients.items()},
        "flat_weights": [id(weight) for weight in model.middle.lstm._flat_weights],
        "flat_list": id(model.middle.lstm._flat_weights),
        "hooks": {
            name: [len(hooks) for kind, hooks in sorted(vars(part).items()) if kind.endswith("_hooks")]
            for name, part in model.named_modules()
        },
        "attributes": {name: sorted(vars(part)) for name, part in model.named_modules()},
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.backends.cudnn.enabled),
        "random": (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
        "values": values,
        "gradients": {name: grad for name, (_, grad) in gradients.items()},
    }


def assert_same(before, after):
    for name in before:
        if name not in ("values", "gradients"):
            assert before[name] == after[name], name
    for name, value in before["values"].items():
        assert torch.equal(value, after["values"][name]), name
    for name, grad in before["gradients"].items():
        other = after["gradients"][name]
        assert grad is other is False or torch.equal(grad, other), name


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("layer", [None, "hidden", ["embedding", "middle.lstm"]])
def test_a_module_is_left_as_it_was(method, layer):
    model, task, batch = built()
    before = state_of(model)
    method(model, batch, task, layer=layer)
    assert_same(before, state_of(model))
    flat = model.middle.lstm._flat_weights
    assert all(
        weight is getattr(model.middle.lstm, name)
        for weight, name in zip(flat, model.middle.lstm._flat_weights_names, strict=True)
    )
    task.logits(model, batch).sum().backward()  # and it trains on
    assert model.hidden.weight.grad is not None


@pytest.mark.parametrize("at", [2, 5, 7])
@pytest.mark.parametrize("layer", ["embedding", "hidden"])
def test_a_module_is_left_as_it_was_when_the_forward_raises(at, layer):
    model, task, batch = built()
    model.middle.raise_at = at
    before = state_of(model)
    with pytest.raises(RuntimeError, match="in the middle"):
        IntegratedGradients()(model, batch, task, layer=layer)
    assert_same(before, state_of(model))
    model.middle.raise_at = None
    IntegratedGradients()(model, batch, task, layer=layer)  # nothing of the failure stays


def test_a_module_is_left_as_it_was_when_the_backward_raises():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("no way back")

    model, task, batch = built()
    score = task.score
    task.score = lambda *args: Fails.apply(score(*args))
    before = state_of(model)
    with pytest.raises(RuntimeError, match="no way back"):
        IntegratedGradients()(model, batch, task)
    assert_same(before, state_of(model))


def test_the_batch_is_left_as_it_was():
    model, task, batch = built()
    before = {name: value.clone() for name, value in batch.items() if isinstance(value, torch.Tensor)}
    note = list(batch["note"])

    class Spoils(BagTask):
        def logits(self, module, batch):
            result = super().logits(module, batch)
            batch["input_ids"].fill_(0)  # a forward that writes into its arguments
            return result

    Gradient()(model, batch, Spoils(task.tokenizer))
    assert all(torch.equal(batch[name], value) for name, value in before.items())
    assert batch["note"] == note


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_whatever_is_around_the_scores_are_the_same(method, mode):
    model, task, batch = built()
    expected = method(model, batch, task)
    with mode():
        inside = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        record = method(model, inside, task)
        assert not torch.is_grad_enabled()
    assert torch.equal(record.scores, expected.scores)
    assert torch.equal(record.target, expected.target)
    assert not record.scores.is_inference()
    assert float(expected.scores.abs().max()) > 1e-4


def test_training_mode_changes_nothing_in_the_scores():
    model, task, batch = built()
    in_training = IntegratedGradients()(model, batch, task)
    torch.manual_seed(7)
    assert torch.equal(IntegratedGradients()(model.eval(), batch, task).scores, in_training.scores)


def test_full_precision_of_a_module_in_half_precision():
    """bf16 weights, float32 arithmetic: the scores are those of the same weights held in float32."""
    model, task, batch = built(torch.bfloat16)
    exact = Bag(Stateful())
    exact.load_state_dict(model.state_dict())
    method = IntegratedGradients(steps=32, tolerance=None)
    expected = method(exact, batch, task)
    before = state_of(model)
    with explaining(model, full_precision=True):
        record = method(model, batches.to_full_precision(batch), task)
    assert_same(before, state_of(model))
    torch.testing.assert_close(record.scores, expected.scores, rtol=1e-5, atol=1e-7)
    assert float(record.relative_error.max()) < 1e-3
    off = (method(model, batch, task).scores - expected.scores).abs().max() / expected.scores.abs().max()
    assert float(off) > 5e-4  # what the precision is for


def test_another_thread_sees_untouched_logits():
    """Served from another thread in the middle of an explanation, the module answers as ever."""
    model, tokenizer = Bag().eval(), wordpiece()
    batch = batch_of(tokenizer)
    with torch.no_grad():
        expected = model(batch["input_ids"], batch["attention_mask"])
    seen, replaced = [], []

    class Served(BagTask):
        def logits(self, module, batch_inside):
            def serve():
                with torch.no_grad():
                    seen.append(module(batch["input_ids"], batch["attention_mask"]))

            thread = threading.Thread(target=serve)
            thread.start()
            thread.join()
            found = super().logits(module, batch_inside)
            replaced.append(found.detach()[: len(expected)])
            return found

    IntegratedGradients(steps=4, tolerance=None)(model, batch, Served(tokenizer))
    assert len(seen) >= 4
    assert all(torch.equal(logits, expected) for logits in seen)
    assert any(not torch.equal(logits, expected) for logits in replaced)  # while here other values were put


def overlapping(first, second):
    """Explain two modules in two threads: the second begins while the first is explained, and ends after it if it can.

    ``first`` and ``second`` are each a module and the name of its embeddings.
    """
    tokenizer = wordpiece()
    batch = batch_of(tokenizer)
    first_is_in, second_is_in, first_is_out = threading.Event(), threading.Event(), threading.Event()

    class Waits(BagTask):
        def __init__(self, name, enters, waits_for):
            super().__init__(tokenizer)
            self.name, self.enters, self.waits_for = name, enters, waits_for

        def layer(self, module):
            return self.name

        def logits(self, module, batch):
            self.enters.set()
            self.waits_for.wait(0.1)
            return super().logits(module, batch)

    def run_first():
        Gradient()(first[0], batch, Waits(first[1], first_is_in, second_is_in))
        first_is_out.set()

    def run_second():
        first_is_in.wait(5)
        Gradient()(second[0], batch, Waits(second[1], second_is_in, first_is_out))

    threads = [threading.Thread(target=run) for run in (run_first, run_second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Around(nn.Module):
    """A module that holds another, as a LightningModule holds its model."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args):
        return self.inner(*args)


@pytest.mark.parametrize("wraps", [(False, False), (True, False), (False, True)])
def test_two_threads_may_explain_one_module(wraps):
    """Scopes that overlap without nesting must not leave one's stand-ins in the place of the weights."""
    model = Bag(Stateful()).train()
    before = state_of(model)
    overlapping(*((Around(model), "inner.embedding") if wrap else (model, "embedding") for wrap in wraps))
    after = state_of(model)
    for state in (before, after):
        del state["random"]  # threads share the random states, so that they draw from one another's
    assert_same(before, after)


def test_two_threads_may_explain_two_modules():
    """Settings of the whole process are restored too."""

    def settings():
        return torch.backends.mha.get_fastpath_enabled(), torch.backends.cudnn.enabled

    torch.backends.mha.set_fastpath_enabled(True)
    before = settings()
    overlapping((Bag(Stateful()), "embedding"), (Bag(), "embedding"))
    try:
        assert settings() == before
    finally:
        torch.backends.mha.set_fastpath_enabled(True)


def test_an_embedding_that_changes_its_own_weight_does_not():
    """``max_norm`` rescales rows in place whenever they are read."""
    model, tokenizer = Bag(), wordpiece()
    model.embedding.max_norm = 0.5
    before = model.embedding.weight.detach().clone()
    record = IntegratedGradients()(model, batch_of(tokenizer), BagTask(tokenizer))
    assert torch.equal(model.embedding.weight, before)
    assert all(record.converged)
