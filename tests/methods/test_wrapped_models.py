"""Modules that are wrapped, compiled, checkpointed or sharded: the scores of the plain one, or an error by name."""

import os
from pathlib import Path

import pytest
import torch
from purity import assert_same, state_of
from tiny import REFERENCES, Bag, bag_task, batch_of, classifier, quiet_trainer, tokenizer_for
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from lightning_interpret import IntegratedGradients, Occlusion, SaliencyMonitor, SequenceClassification, TextClassifier
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods import METHODS
from lightning_interpret.methods.influence import EkfacInfluence, GradientSimilarity
from lightning_interpret.modules.portable import config_values
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.transformer import call

DOCS = Path(__file__).parents[2] / "docs" / "wrapped_models.md"
FIXED = IntegratedGradients(tolerance=None, steps=4)
#: One method of each family of those that attribute: gradients, paths, rules, attention, erasure, decomposition.
FAMILIES = {
    "gradient_times_input": {},
    "integrated_gradients": {"tolerance": None, "steps": 4},
    "sequential_integrated_gradients": {"steps": 2},
    "smooth_grad": {"samples": 2},
    "deep_lift": {},
    "layerwise_relevance": {},
    "contextual_decomposition": {},
    "occlusion": {},
    "attention_rollout": {},
    "gradient_attention": {},
    "value_zeroing": {},
}
WITHOUT_ATTENTION = list(FAMILIES)[:-3]
FEW = ["integrated_gradients", "layerwise_relevance", "occlusion", "attention_rollout"]
SLOW = [("bert", False), ("gpt2", True), ("t5", True), ("t5", False), ("bart", True), ("bart", False)]


class Holder(nn.Module):
    """What a LightningModule is to us: it holds the model, and calls it as it is."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids, mask):
        return self.model(input_ids=ids, attention_mask=mask).logits


class Called(SequenceClassification):
    """Calls the module, so that the wrappers in it run too."""

    def logits(self, module, batch):
        return module(batch["input_ids"], batch["attention_mask"])

    def layer(self, module):
        return "model.bert.embeddings.word_embeddings"


def labelled(tokenizer, texts=REFERENCES):
    batch = dict(batch_of(tokenizer, list(texts), labels=[i % 3 for i in range(len(texts))]))
    return batch | {"example_id": torch.arange(len(texts))}


def assert_equal(wrapped, plain, task_of, batch, names=FAMILIES, *, compared=1e-5):
    """Every family gives the scores of the plain module, and leaves the wrapped one as it was."""
    before = state_of(wrapped)
    for name in names:
        method = METHODS[name](**FAMILIES[name])
        found, expected = (method(module, batch, task_of(module)).scores for module in (wrapped, plain))
        assert float((found - expected).abs().max()) <= compared * max(1, float(expected.abs().max())), name
        assert float(expected.abs().max()) > 1e-3, name
    assert_same(before, state_of(wrapped))


def influences(module, task, method=GradientSimilarity()):  # noqa: B008
    rows = labelled(task.tokenizer)
    return method.fit(module, [rows], task).matrix(rows)[1]


# Checkpoints of activations


@pytest.mark.parametrize(
    ("name", "reentrant"),
    [("bert", True), ("gpt2", False), *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
)
def test_gradient_checkpointing_changes_nothing_and_stays_on(name, reentrant):
    tokenizer, plain = tokenizer_for(name), classifier(name)
    model = classifier(name)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    names = ["integrated_gradients", "layerwise_relevance", *(["attention_rollout"] if name == "bert" else [])]
    batch = batch_of(tokenizer)
    assert_equal(model.train(), plain, lambda module: find_task(module, tokenizer=tokenizer), batch, names)
    assert model.is_gradient_checkpointing
    assert model.training


class Always(Bag):
    """Checkpoints its parts in evaluation mode too; the first of them is what is attributed to, the second is not."""

    def __init__(self, which, **options):
        super().__init__(nn.Tanh())
        self.which, self.options = which, options

    def forward(self, ids, mask):
        mask = mask.unsqueeze(-1).to(self.head.weight.dtype)
        embedded = self._run(0, lambda ids: self.middle(self.embedding(ids)), ids)
        pooled = (embedded * mask).sum(dim=1) / mask.sum(dim=1)
        return self.head(self._run(1, lambda pooled: torch.tanh(self.hidden(pooled)), pooled))

    def _run(self, part, run, read):
        return checkpoint(run, read, **self.options) if part in self.which else run(read)


@pytest.mark.parametrize("options", [{"use_reentrant": True}, {"use_reentrant": False}], ids=str)
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=str)
def test_checkpoints_that_are_always_on_are_passed_over(which, options):
    """Recomputed without its rules, the second part gave DeepLIFT wrong scores without a word."""
    task, wrapped, plain = bag_task(), Always(which, **options), Always(())
    batch = batch_of(task.tokenizer)
    assert_equal(wrapped, plain, lambda _: task, batch, WITHOUT_ATTENTION, compared=0)
    for method in (GradientSimilarity(), EkfacInfluence(damping=0.1)):
        assert torch.equal(influences(wrapped, task, method), influences(plain, task, method))


def test_a_checkpoint_recomputes_again_after_the_scope_and_its_forward_context_is_kept():
    calls, entered = [], []

    class Noting:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            entered.append(self.name)

        def __exit__(self, *_):
            pass

    def run(x):
        calls.append(None)
        return torch.tanh(x)

    def backward():
        calls.clear()
        x = torch.ones(3, requires_grad=True)
        contexts = Noting("forward"), Noting("again")
        checkpoint(run, x, use_reentrant=False, context_fn=lambda: contexts).sum().backward()
        return len(calls)

    assert backward() == 2
    entered.clear()
    with explaining(nn.Linear(1, 1)):
        assert backward() == 1
        assert entered == ["forward"]
        with explaining(nn.Linear(1, 1)):
            assert backward() == 1
        assert backward() == 1
    assert backward() == 2
    with pytest.raises(ZeroDivisionError), explaining(nn.Linear(1, 1)):
        checkpoint(lambda x: 1 / 0, torch.ones(3), use_reentrant=False)
    assert backward() == 2


def test_layers_in_wrappers_that_checkpoint_have_their_own_names():
    tokenizer, plain, model = tokenizer_for("bert"), classifier("bert"), classifier("bert")
    model.bert.encoder.layer = nn.ModuleList(checkpoint_wrapper(layer) for layer in model.bert.encoder.layer)
    model.bert.embeddings.word_embeddings = checkpoint_wrapper(model.bert.embeddings.word_embeddings)
    task, batch = find_task(plain, tokenizer=tokenizer), batch_of(tokenizer)
    assert_equal(model, plain, lambda _: task, batch, ["deep_lift", "attention_rollout", "value_zeroing"])
    found, expected = (FIXED(module, batch, task, layer="all") for module in (model, plain))
    assert list(found) == list(expected) == [task.layer(plain), "bert.encoder.layer.0", "bert.encoder.layer.1"]
    for name, record in found.items():
        assert torch.equal(record.scores, expected[name].scores)
    assert isinstance(find_layer(model, "bert.embeddings.word_embeddings"), nn.Embedding)


# Compiled modules


def compiled(how, backend="eager"):
    holder = Holder(classifier("bert"))
    if how == "whole":
        return torch.compile(holder, backend=backend)
    if how == "inner":
        holder.model = torch.compile(holder.model, backend=backend)
    if how == "in place":
        holder.model.compile(backend=backend)
    if how == "layer":
        layers = holder.model.bert.encoder.layer
        layers[0] = torch.compile(layers[0], backend=backend)
    return holder


@pytest.mark.parametrize(
    "how", ["inner", *(pytest.param(how, marks=pytest.mark.slow) for how in ["in place", "whole", "layer"])]
)
def test_compiled_modules_are_explained_as_they_are_written(how):
    tokenizer, plain, module = tokenizer_for("bert"), Holder(classifier("bert")), compiled(how)
    batch = batch_of(tokenizer)
    with torch.no_grad():
        module.eval()(batch["input_ids"], batch["attention_mask"])  # compiled code is there
    frames = dict(torch._dynamo.utils.counters["frames"])
    task = Called(tokenizer, ["a", "b", "c"])
    names = FAMILIES if how == "in place" else ["integrated_gradients", "deep_lift", "attention_rollout"]
    assert_equal(module, plain, lambda _: task, batch, names)
    assert torch.equal(influences(module, task), influences(plain, task))
    found, expected = (FIXED(each, batch, find_task(each, tokenizer=tokenizer)) for each in (module, plain))
    assert torch.equal(found.scores, expected.scores)
    assert dict(torch._dynamo.utils.counters["frames"]) == frames  # nothing was compiled for us


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_so_are_those_that_a_backend_compiles(backend):
    tokenizer, plain, module = tokenizer_for("bert"), Holder(classifier("bert")), compiled("inner", backend)
    batch, task = batch_of(tokenizer), Called(tokenizer, ["a", "b", "c"])
    with torch.no_grad():
        module.eval()(batch["input_ids"], batch["attention_mask"])
    assert_equal(module, plain, lambda _: task, batch, ["integrated_gradients", "layerwise_relevance"])


def test_a_compiled_model_is_called_with_what_it_takes():
    tokenizer = tokenizer_for("bert")
    config = config_values(classifier("bert").config)
    module = TextClassifier(config=config, labels=["a", "b", "c"], tokenizer=tokenizer).eval()
    batch = batch_of(tokenizer)
    batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        expected = module(batch)
        module.model = torch.compile(module.model)
        assert torch.equal(module(batch), expected)
        assert torch.equal(call(nn.DataParallel(module.model), batch).logits, expected)


# Sharded, offloaded, quantised


def test_data_parallel_runs_on_the_modules_own_device_and_is_left_as_it_was():
    tokenizer, plain, holder = tokenizer_for("bert"), Holder(classifier("bert")), Holder(classifier("bert"))
    holder.model = nn.DataParallel(holder.model)
    holder.model.device_ids = [0, 1]  # as where there are two GPUs: hooks do not act in the threads of replicas
    task = Called(tokenizer, ["a", "b", "c"])
    task.layer = lambda module: next(name for name, _ in module.named_modules() if name.endswith("word_embeddings"))
    assert_equal(holder, plain, lambda _: task, batch_of(tokenizer), ["integrated_gradients", "deep_lift"])
    assert holder.model.device_ids == [0, 1]


@pytest.fixture(scope="module")
def mesh():
    """The device mesh of a group of one process."""
    before = {name: os.environ.get(name) for name in ("MASTER_ADDR", "MASTER_PORT")}
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT="0")
    torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        torch.distributed.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def fully_sharded(holder, mesh):
    torch.distributed.fsdp.fully_shard(holder.model, mesh=mesh)


def wrapped_in_fsdp(holder, mesh):
    holder.model = torch.distributed.fsdp.FullyShardedDataParallel(holder.model, device_id=torch.device("cpu"))


def tensor_parallel(holder, mesh):
    from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module

    parallelize_module(holder.model.classifier, mesh, ColwiseParallel())


def of_zero_3(holder, mesh):
    holder.model.classifier.weight.ds_id = 7


def offloaded(holder, mesh):
    holder.model.bert.embeddings.word_embeddings.to("meta")


@pytest.mark.parametrize(
    ("shard", "match"),
    [
        (fully_sharded, r"^'model\.bert\.embeddings\.word_embeddings\.weight' is a DTensor .* not whole"),
        (wrapped_in_fsdp, r"^'model' is wrapped in FullyShardedDataParallel.* not whole"),
        (tensor_parallel, r"^'model\.classifier\.weight' is a DTensor .* not whole"),
        (of_zero_3, r"^'model\.classifier\.weight' is a parameter of DeepSpeed's ZeRO-3.* not whole"),
        (offloaded, r"^'model\.bert\.embeddings\.word_embeddings\.weight' is on the meta device.* offloaded"),
    ],
)
def test_weights_that_are_not_whole_in_this_process_are_refused_by_name(shard, match, mesh):
    tokenizer, holder = tokenizer_for("bert"), Holder(classifier("bert"))
    task = find_task(holder, tokenizer=tokenizer)
    shard(holder, mesh)
    for method in (FIXED, Occlusion()):
        with pytest.raises(ValueError, match=match) as error:
            method(holder, batch_of(tokenizer), task)
    assert str(error.value).split("' ", 1)[1].split(":")[0] in " ".join(DOCS.read_text().split())
    with pytest.raises(ValueError, match=match):
        influences(holder, task)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_quantised_model_is_explained_without_gradients_and_refused_with_them():
    tokenizer = tokenizer_for("bert")
    model = torch.ao.quantization.quantize_dynamic(classifier("bert"), {nn.Linear}, dtype=torch.qint8)
    task, batch = find_task(model, tokenizer=tokenizer), batch_of(tokenizer)
    record = Occlusion(baseline="mask")(model, batch, task)
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    assert torch.allclose(record.target.float(), logits.amax(dim=1))
    for name in ("gradient_times_input", "integrated_gradients", "deep_lift", "layerwise_relevance", "smooth_grad"):
        with pytest.raises(ValueError, match=r"'bert\.encoder.*' is a quantised layer .*'occlusion'"):
            METHODS[name](**FAMILIES[name])(model, batch, task)
    with pytest.raises(ValueError, match=r"is a quantised layer"):
        influences(model, task)
    assert not any(part._forward_pre_hooks for part in model.modules())


class Packed(nn.Parameter):
    """Four-bit weights as other libraries pack them: whole numbers, with how they are unpacked beside them."""


class Unpacking(nn.Module):
    def __init__(self, layer):
        super().__init__()
        scale = float(layer.weight.detach().abs().max() / 7)
        self.weight = Packed((layer.weight.detach() / scale).round().to(torch.int8), requires_grad=False)
        self.weight.scale, self.bias = scale, layer.bias

    def forward(self, x):
        return nn.functional.linear(x, self.weight * self.weight.scale, self.bias)


def test_packed_weights_keep_how_they_are_unpacked():
    task, bag, plain = bag_task(), Bag(), Bag()
    bag.hidden = Unpacking(bag.hidden)
    with torch.no_grad():
        plain.hidden.weight.copy_(bag.hidden.weight * bag.hidden.weight.scale)
    assert_equal(bag, plain, lambda _: task, batch_of(task.tokenizer), ["integrated_gradients", "occlusion"])


# Weights that are computed, shared, or frozen


class Half(nn.Module):
    def forward(self, weight):
        return weight / 2


def test_parametrised_weights_are_those_that_are_computed():
    tokenizer, plain, model = tokenizer_for("bert"), classifier("bert"), classifier("bert")
    halved = ["bert.encoder.layer.0.intermediate.dense", "bert.embeddings.word_embeddings"]
    for name in halved:
        parametrize.register_parametrization(model.get_submodule(name), "weight", Half())
        plain.get_submodule(name).weight.data /= 2
    for each in (model, plain):
        torch.nn.utils.weight_norm(each.bert.encoder.layer[1].intermediate.dense)
        parametrizations.weight_norm(each.bert.pooler.dense)
    assert_equal(model, plain, lambda module: find_task(module, tokenizer=tokenizer), batch_of(tokenizer), FEW)
    rows, task = labelled(tokenizer), find_task(model, tokenizer=tokenizer)
    notes = GradientSimilarity().fit(model, [rows], task).approximation.notes
    assert any("not covered" in note and "parametrizations.weight.original" in note for note in notes)


def test_a_frozen_model_is_explained_and_has_no_influence():
    tokenizer, plain, model = tokenizer_for("bert"), classifier("bert"), classifier("bert").requires_grad_(False)
    task_of = lambda module: find_task(module, tokenizer=tokenizer)  # noqa: E731
    assert_equal(model, plain, task_of, batch_of(tokenizer), FEW, compared=0)
    with pytest.raises(ValueError, match="no layer with trainable parameters that influence can cover"):
        influences(model, task_of(model))
    model.classifier.requires_grad_(True)
    plain.bert.requires_grad_(False)
    assert torch.equal(influences(model, task_of(model)), influences(plain, task_of(plain)))


def test_a_monitor_refuses_weights_that_are_not_whole_before_training_starts(tmp_path):
    rows = [{name: values[0] for name, values in labelled(tokenizer_for("bert"), REFERENCES[:1]).items()}] * 4
    config = config_values(classifier("bert").config)
    module = TextClassifier(config=config, labels=["a", "b", "c"], tokenizer=tokenizer_for("bert"))
    module.model.classifier.weight.ds_id = 7
    module.training_step = lambda *_: pytest.fail("training has started")
    trainer = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0, callbacks=[SaliencyMonitor()])
    with pytest.raises(ValueError, match=r"'model\.classifier\.weight' is a parameter of DeepSpeed's ZeRO-3"):
        trainer.fit(module, DataLoader(rows), DataLoader(rows))
