"""What recording leaves behind (nothing), and what stands in its way: checkpoints, compiled parts, changes in place."""

import pytest
import torch
from per_example import Tied, assert_right, by_autograd, by_hooks, drawn, near, runs, settled
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import CheckpointFunction, checkpoint

from lightning_interpret.functional.influence.blocks import find_blocks
from lightning_interpret.functional.influence.gradients import recording
from lightning_interpret.functional.scope import explaining

apply = CheckpointFunction.apply
SWITCHES = {
    "flash": (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    "efficient": (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    "math": (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    "cudnn": (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
}


def bert():
    model, batch = classifier("bert"), batch_of(tokenizer_for("bert"))

    def losses(n):
        rows = torch.arange(n) % 2
        logits = model(input_ids=batch["input_ids"][rows], attention_mask=batch["attention_mask"][rows]).logits
        return F.cross_entropy(logits, rows, reduction="none")

    return model.train(), losses


def test_the_module_is_as_it_was():
    model, losses = bert()
    model.bert.pooler.dense.weight.requires_grad_(False)
    before = state_of(model)
    by_hooks(model, losses, 2)
    assert_same(before, state_of(model))


def test_an_error_in_the_forward_leaves_nothing_behind():
    model, losses = bert()
    model.classifier.register_forward_hook(lambda *_: 1 / 0)
    before = state_of(model)
    with explaining(model), pytest.raises(ZeroDivisionError), recording(find_blocks(model), 2):
        losses(2)
    assert_same(before, state_of(model))


@pytest.mark.parametrize("math", [True, False])
def test_the_users_choice_of_attention_kernels_is_restored(math):
    model, losses = bert()
    before = {name: enabled() for name, (enabled, _) in SWITCHES.items()}
    try:
        SWITCHES["math"][1](math)
        chosen = {name: enabled() for name, (enabled, _) in SWITCHES.items()}
        with explaining(model), recording(find_blocks(model), 2) as record:
            assert [name for name, (enabled, _) in SWITCHES.items() if enabled()] == ["math"]
            values = losses(2)
        record.gradients(values.sum())
        assert {name: enabled() for name, (enabled, _) in SWITCHES.items()} == chosen
        with pytest.raises(ZeroDivisionError), recording(find_blocks(model), 2):
            raise ZeroDivisionError
        assert {name: enabled() for name, (enabled, _) in SWITCHES.items()} == chosen
    finally:
        for name, (_, enable) in SWITCHES.items():
            enable(before[name])


class Checkpointed(nn.Module):
    """Stages whose activations are computed again in the backward pass, the first of which reads ids."""

    def __init__(self, **options):
        super().__init__()
        self.options, self.embedding, self.head = options, nn.Embedding(9, 6), nn.Linear(6, 3)
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.LayerNorm(6), nn.Tanh()) for _ in range(2))

    def forward(self, ids):
        hidden = checkpoint(lambda ids: torch.tanh(self.embedding(ids)), ids, **self.options)
        for stage in self.stages:
            hidden = checkpoint(stage, hidden, **self.options)
        return self.head(hidden.mean(dim=1))


def ids(count=4, length=7):
    return torch.randint(0, 9, (count, length), generator=torch.Generator().manual_seed(0))


def test_checkpoints_of_activations_change_nothing():
    model = Checkpointed(use_reentrant=False).double()
    assert len(assert_right(model, runs(model, ids()), 4)) == 6


def test_of_one_forward_several_gradients_can_be_asked_also_with_checkpoints():
    model = Checkpointed(use_reentrant=False).double()
    losses = runs(model, ids())
    with explaining(model):
        blocks, _ = settled(model, losses)
        with recording(blocks, 4) as record:
            values = losses(4)
            first = record.gradients(values.sum(), retain_graph=True)
        again = record.gradients(values.sum())
        found = {each.block.name: each.block.flat(each.gradient()) for each in again}
        near({each.block.name: each.block.flat(each.gradient()) for each in first}, found, 0)
    near(found, by_autograd(model, losses, 4, blocks), 1e-10)


def test_reentrant_checkpoints_change_nothing_either():
    model = Checkpointed(use_reentrant=True).double()
    losses = runs(model, ids())
    found, blocks, left = by_hooks(model, losses, 4)
    assert not left
    model.options["use_reentrant"] = False  # the other way hides the embedding from autograd
    near(found, by_autograd(model, losses, 4, blocks), 1e-10)


class Applied(Checkpointed):
    """Checkpoints that are not of `torch.utils.checkpoint.checkpoint`, as other libraries have their own."""

    def forward(self, ids):
        hidden = apply(lambda ids: torch.tanh(self.embedding(ids)), True, ids)
        for stage in self.stages:
            hidden = apply(stage, True, hidden)
        return self.head(hidden.mean(dim=1))


def test_reentrant_checkpoints_of_other_libraries_are_refused_with_a_way_out():
    model = Applied().double()
    losses = runs(model, ids())
    with (
        explaining(model),
        pytest.raises(ValueError, match=r"(?s)'embedding'.*use_reentrant=False"),
        recording(find_blocks(model), 4),
    ):
        losses(4)
    with explaining(model):
        used, left = settled(model, losses)
    assert [block.name for block in used] == ["head"]
    assert "use_reentrant=True" in left["stages.0.0"]


def test_behind_a_reentrant_checkpoint_there_is_an_error_that_says_what_to_do():
    model = Applied().double()
    before = nn.Sequential(nn.Linear(6, 6), nn.Tanh()).double()

    class Behind(nn.Module):
        def __init__(self):
            super().__init__()
            self.before, self.model = before, model

        def forward(self, x):
            return self.model.head(apply(self.model.stages[0], True, self.before(x)).mean(dim=1))

    whole = Behind()
    with explaining(whole), pytest.raises(ValueError, match="use_reentrant=False"):
        settled(whole, runs(whole, drawn(4, 5, 6)), ["before", "model.head"])


def test_gradient_checkpointing_of_transformers_changes_nothing():
    model, losses = bert()
    model.double().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    found, blocks, _ = by_hooks(model, losses, 2)
    near(found, by_autograd(model.eval(), losses, 2, blocks), 1e-10)


class InPlace(nn.Module):
    """Changes what a layer has read, which autograd allows where the layer read something else, or no weight trains."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 6), nn.Linear(6, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x):
        hidden = torch.tanh(self.first(x))
        read = hidden.detach().clone() if not hidden.requires_grad else hidden + 0
        out = self.second(read)
        with torch.no_grad():
            read.data.mul_(0.5) if read.is_inference() else read.add_(1)
        return self.head(out.mean(dim=1))


def test_what_was_read_and_then_changed_is_copied_or_refused_by_name():
    model = InPlace().double()
    losses = runs(model, drawn(4, 5, 6))
    with explaining(model):
        with recording(find_blocks(model), 4) as record:
            values = losses(4)
        with pytest.raises(ValueError, match=r"'second' reads is changed in place"):
            record.gradients(values.sum())
    found, blocks, left = by_hooks(model, losses, 4)
    assert not left

    class Kept(InPlace):
        def forward(self, x):
            return self.head(self.second(torch.tanh(self.first(x))).mean(dim=1))

    model.__class__ = Kept  # the same, without the change: autograd would refuse the other
    near(found, by_autograd(model, losses, 4, blocks), 1e-10)


@pytest.mark.parametrize("inplace", [True, False])
def test_compiled_parts_are_met_as_they_are_written(inplace):
    model = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), nn.Linear(6, 3)).double()
    if inplace:
        model[0].compile(backend="eager")
    else:
        model[0] = torch.compile(model[0], backend="eager")
    compiled = dict(torch._dynamo.utils.counters["frames"])
    found, blocks, _ = by_hooks(model, runs(model, drawn(4, 6)), 4)
    assert dict(torch._dynamo.utils.counters["frames"]) == compiled
    near(found, by_autograd(model, runs(model, drawn(4, 6)), 4, blocks), 1e-10)
    assert find_blocks(model, "0.0")[0].module is find_blocks(model)[0].module  # as the user has named it


class Elsewhere(nn.Module):
    """A weight that is used outside of its layer's call; examples that meet."""

    def __init__(self, how):
        super().__init__()
        self.how, self.embedding, self.head = how, nn.Embedding(9, 6), nn.Linear(6, 6)

    def forward(self, ids):
        hidden = torch.tanh(self.head(self.embedding(ids).mean(dim=1)))
        if self.how == "functional":
            return F.linear(hidden, self.embedding.weight)
        return hidden - hidden.mean(dim=0)


@pytest.mark.parametrize(("how", "left"), [("functional", {"embedding"}), ("examples meet", {"embedding", "head"})])
def test_layers_whose_gradients_are_not_their_calls_alone_are_left_out(how, left):
    model = Elsewhere(how).double()
    if how == "functional":
        assert_right(model, runs(model, ids()), 4, left=left)
    else:
        assert set(by_hooks(model, runs(model, ids()), 4)[2]) == left


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision_are_recorded_in_single(dtype):
    model = Tied().to(dtype)
    losses = runs(model, ids())
    with explaining(model, full_precision=True):
        blocks, left = settled(model, losses)
        with recording(blocks, 4) as record:
            values = losses(4)
        found = {each.block.name: each.block.flat(each.gradient()) for each in record.gradients(values.sum())}
    assert not left
    assert {each.dtype for each in found.values()} == {torch.float32}
    near(found, by_autograd(model.float(), losses, 4, blocks), 1e-5)


def test_of_a_forward_under_autocast_gradients_are_in_single_precision():
    model = Tied()
    losses = runs(model, ids())
    with explaining(model):
        with torch.autocast("cpu", torch.bfloat16):
            blocks, left = settled(model, losses)
            with recording(blocks, 4) as record:
                values = losses(4)
        found = {each.block.name: each.block.flat(each.gradient()) for each in record.gradients(values.sum())}
    assert not left
    assert {each.dtype for each in found.values()} == {torch.float32}
    near(found, by_autograd(model, losses, 4, blocks), 0.05)


class Pair(nn.Linear):
    """A linear layer of another kind: returns two."""

    def forward(self, x):
        return super().forward(x), None


def test_a_layer_that_returns_no_tensor_is_left_out_by_name():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair, self.head = Pair(6, 6), nn.Linear(6, 3)

        def forward(self, x):
            return self.head(self.pair(x)[0])

    model = Model().double()
    assert_right(model, runs(model, drawn(4, 6)), 4, left={"pair"})
