"""A concept bottleneck beside other joint methods: what comes before what, and what is taken out first."""

import copy

import pytest
import torch
from concept_toys import NAMES, Net, Plain, batch_of, fit, loader, seeded
from planted import planted
from rationale_toys import Reader, Wrapped
from tiny import batch_of as text_batch
from tiny import tokenizer_for
from torch.nn import functional as F
from torch.utils.data import DataLoader, default_collate

from lightning_interpret import (
    ConceptBottleneckMixin,
    KernelMixin,
    RationaleMixin,
    SpanExplanationMixin,
    TurnOverDropoutMixin,
)
from lightning_interpret.functional.concepts import concept_loss
from lightning_interpret.layers.before_head import put_before
from lightning_interpret.layers.concept_bottleneck import ConceptBottleneck

KERNEL = {"kernel_landmarks": 8, "kernel_refresh": "epoch"}


class KernelFirst(KernelMixin, Net):
    """Encoder, kernel, concepts, head: concepts are read off similarities."""


class ConceptsFirst(ConceptBottleneckMixin, KernelMixin, Plain):
    """Encoder, concepts, kernel, head: examples are alike whose concepts are."""


class TurnOver(TurnOverDropoutMixin, Net):
    pass


def made(kind, **options):
    named = {"concept_names": list(NAMES)} if kind is ConceptsFirst else {}
    module = seeded(kind, **named, **options)
    module.configure_model()
    return module


def test_concepts_are_read_off_similarities(tmp_path):
    module = made(KernelFirst, **KERNEL)
    found = fit(module, tmp_path).callback_metrics
    batch = batch_of(6)
    with torch.no_grad():
        h = module.eval().encode(batch)
        values = module.concepts.scores(module.kernel(h)).sigmoid()
        assert torch.equal(module(batch), F.linear(values, module.last.weight, module.last.bias))
    assert module.explain(batch)[0].kind == "landmarks"  # the first of the bases answers
    rows = ConceptBottleneckMixin.explain(module, batch)
    assert all(abs(row.error) < 1e-5 for row in rows)
    assert {"concepts/accuracy", "concepts/intervened_accuracy", "train_concepts"} <= found.keys()


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_similarities_are_read_off_concepts(kernel, tmp_path):
    module = made(ConceptsFirst, kernel=kernel, **KERNEL)
    found = fit(module, tmp_path).callback_metrics
    batch = batch_of(6)
    with torch.no_grad():
        values = module.concepts(module.eval().encode(batch))
        assert module.kernel.width == 5
        assert torch.equal(module(batch), module.last.forward(module.kernel(values)))
    rows = module.explain(batch)
    for row in rows:  # of a linear kernel all that follows is linear
        assert ("contribution" in row.reasons) == (kernel == "rbf") == (row.error is None)
    assert {"concepts/accuracy", "concepts/intervened_accuracy", "train_concepts"} <= found.keys()
    with module.intervene(dict.fromkeys(NAMES, 0.5)), torch.no_grad():
        same = module(batch)
    torch.testing.assert_close(same, same[:1].expand_as(same), rtol=0, atol=1e-6)
    assert module.explain_landmarks(batch)[0].kind == "landmarks"


@pytest.mark.parametrize("kind", [KernelFirst, ConceptsFirst])
def test_both_are_saved_copied_and_taken_out(kind, tmp_path):
    module, batch = made(kind, **KERNEL), batch_of(6)
    fit(module, tmp_path)
    with torch.no_grad():
        said = module.eval()(batch)
        assert torch.equal(copy.deepcopy(module)(batch), said)
        loaded = seeded(kind, seed=3, **KERNEL, **({"concept_names": list(NAMES)} if kind is ConceptsFirst else {}))
        loaded.load_state_dict(module.state_dict())
        assert torch.equal(loaded.eval()(batch), said)
    first = module.detach_kernel if kind is KernelFirst else module.detach_concepts
    with pytest.raises(ValueError, match="Another layer was put before the head 'last' since"):
        first()
    module.become_plain()
    assert module.state_dict().keys() == Plain().state_dict().keys()
    assert module.last.in_features == 24
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    fit(module, tmp_path)


def test_one_of_two_is_taken_out_and_the_other_stays(tmp_path):
    module, batch = made(KernelFirst, **KERNEL), batch_of(6)
    module.detach_concepts()
    fit(module, tmp_path)
    with torch.no_grad():
        assert torch.equal(module.eval()(batch), module.last.forward(module.kernel(module.encode(batch))))


@pytest.mark.parametrize("reverse", [False, True])
def test_with_turn_over_dropout_in_either_order(reverse, tmp_path):
    kind = type("Reversed", (ConceptBottleneckMixin, TurnOverDropoutMixin, Plain), {}) if reverse else TurnOver
    module = seeded(kind, turn_over_layers=["input of last"], **({"concept_names": list(NAMES)} if reverse else {}))
    module.configure_model()
    fit(module, tmp_path)
    batch = batch_of(6)
    with torch.no_grad():
        h = module.eval().encode(batch)
        values = module.concepts(h)
        assert torch.equal(module(batch), module.last.forward(values))
        with module.turn_over_dropout.unseen(batch["example_id"]):
            masked = module(batch)
        factors = module.turn_over_dropout.factors("input of last", batch["example_id"], 5, flipped=True)
        assert torch.allclose(masked, module.last.forward(values * factors))


def test_what_is_before_a_head_goes_with_it_to_the_next():
    module = Plain()
    seen = []
    module.last.register_forward_pre_hook(lambda head, args: seen.append(args[0].shape[1]))
    first, second = torch.nn.Linear(24, 7), ConceptBottleneck(7, ["a", "b"])
    outer = put_before(module, "last", first, 7)
    inner = put_before(module, "last", second, 2)
    batch = batch_of(3)
    with torch.no_grad():
        h = module.eval().encode(batch)
        wanted = module.last.forward(second.eval()(first(h)))
        assert torch.equal(module(batch), wanted)
        assert torch.equal(outer.scores(first(h)), wanted)
        assert torch.equal(inner.scores(second(first(h))), wanted)
    assert seen == [24]
    with pytest.raises(ValueError, match="take that one out first"):
        outer.take_out()
    inner.take_out()
    outer.take_out()
    module(batch)
    assert seen == [24, 24]
    assert module.last.in_features == 24


def test_an_averaged_copy_is_set_by_itself():
    module, batch = made(Net), batch_of(4)
    other = copy.deepcopy(module)
    plain = module.eval()(batch)
    with other.intervene({"food": 1.0}):
        assert torch.equal(module(batch), plain)
        assert not torch.equal(other.eval()(batch), plain)
    other.train().training_step(batch, 0)
    assert (other._concept_listener.heard, module._concept_listener.heard) == (True, False)
    assert other._concept_listener.module is other


def test_a_batch_that_is_a_tuple_with_a_mapping_is_read():
    class Tuples(Net):
        def forward(self, batch):
            return super().forward(batch[0])

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch), batch[1])

    module, rows = made(Tuples), loader(8).dataset
    batch = default_collate([rows[i] for i in range(8)])
    loss = module.training_step((batch, batch["labels"]), 0)
    assert torch.equal(loss, made(Net).training_step(batch, 0))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("asked", [False, True])
def test_with_a_rationale_the_pass_over_what_was_selected_counts(reverse, asked, tmp_path):
    class Asks(Reader):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            return loss + self.auxiliary_loss() if asked else loss

    bases = (RationaleMixin, ConceptBottleneckMixin)
    kind = type("Joint", (*(bases[::-1] if reverse else bases), Asks), {})
    options = {"rationale_control": "fixed", "rationale_consistency": 1.0, "width": 16}
    module = seeded(kind, concept_names=["a", "b"], **options)
    module.configure_model()
    corpus, terms, scores = planted(48, 0), {}, []
    rows = [
        {"input_ids": corpus.ids[i], "labels": corpus.labels[i], "concepts": torch.tensor([i % 2, i % 3 == 0]).float()}
        for i in range(48)
    ]
    add = module.add_term
    module.add_term = lambda name, value: (terms.setdefault(name, []).append(value.detach()), add(name, value))
    handle = module.concepts.register_forward_hook(
        lambda layer, args, out: scores.append(layer.scores(args[0]).detach())
    )
    batch = default_collate(rows[:8])
    module.train().training_step(batch, 0)
    assert len(scores) > 1
    assert len(terms["concepts"]) == 1
    assert torch.allclose(terms["concepts"][0], concept_loss(scores[0], batch["concepts"]))
    assert {"rationale", "rationale_consistency"} <= terms.keys()
    handle.remove()
    del module.add_term
    data = DataLoader(rows, batch_size=16)
    found = fit(module, tmp_path, data, data).callback_metrics
    assert found["concepts/task_accuracy"].item() == pytest.approx(found["val_accuracy"].item(), abs=1e-6)


@pytest.mark.parametrize("reverse", [False, True])
def test_with_weighed_spans_the_concepts_are_read_off_them(reverse, tmp_path):
    bases = (SpanExplanationMixin, ConceptBottleneckMixin)
    kind = type("Joint", (*(bases[::-1] if reverse else bases), Wrapped), {})
    module = seeded(kind, name="bert", concept_names=["a", "b"])
    module.configure_model()
    batch = text_batch(tokenizer_for("bert"), ["a good film", "bad"], labels=[2, 0])
    batch["concepts"] = torch.tensor([[1.0, 0.0], [0.0, torch.nan]])
    module.train().training_step(batch, 0).backward()
    assert module.concepts.weight.grad.abs().sum() > 0
    rows = ConceptBottleneckMixin.explain(module, batch)
    assert all(abs(row.error) < 1e-4 for row in rows)
    assert {each.gold for each in rows[1].concepts} == {0.0, None}
    assert {row.kind for row in SpanExplanationMixin.explain(module, batch)} == {"spans"}
    module.become_plain()
    assert not any(name.startswith(("spans", "concepts")) for name in module.state_dict())
