"""The gate at the embeddings of every family: what is not selected has no effect; Monitors read what is deployed."""

import pytest
import torch
from rationale_toys import gated
from tiny import CLASSIFIERS, LONG, SHORT, batch_of
from torch import nn

from lightning_interpret import IntegratedGradients, Occlusion

families = pytest.mark.parametrize("name", CLASSIFIERS)


def batch_for(module, labels=(0, 1), **options):
    return batch_of(module.tokenizer, [LONG, SHORT], labels=list(labels), **options)


def selection_of(module, batch):
    """The logits and what was selected, as wide as the batch."""
    with module.rationale.hearing() as heard, torch.no_grad():
        logits = module(batch)
    (read,) = heard
    width = batch["input_ids"].shape[1]
    return logits, read.z[:, :width], read.selectable[:, :width]


@pytest.mark.parametrize("generator", ["own", "shared"])
@families
def test_what_is_not_selected_has_no_effect(name, generator):
    module = gated(name, rationale_generator=generator)
    batch = batch_for(module)
    logits, z, selectable = selection_of(module, batch)
    left = selectable & (z == 0)
    assert z[selectable].sum(dim=0) == (0.3 * selectable.sum(dim=1)).round().sum()
    assert left.sum() > 5
    other = (batch["input_ids"] - 5 + torch.randint(1, 20, left.shape)) % 20 + 5  # any token but the one that is there
    with module.rationale.selecting(z), torch.no_grad():
        assert torch.equal(module(batch), logits)
        assert torch.equal(module({**batch, "input_ids": torch.where(left, other, batch["input_ids"])}), logits)
        changed = module({**batch, "input_ids": torch.where(selectable & ~left, other, batch["input_ids"])})
    assert (changed - logits).abs().amax(dim=1).min() > 1e-4  # what is selected has one


@pytest.mark.parametrize("generator", ["own", "shared"])
@families
def test_the_gate_learns_from_the_loss(name, generator):
    module = gated(name, rationale_generator=generator).train()
    loss = torch.nn.functional.cross_entropy(module(batch_for(module)), torch.tensor([0, 1]))
    loss.backward()  # without the term that holds the rate
    assert module.rationale.gate.weight.grad.abs().sum() > 1e-4
    if generator == "own":
        assert all(weight.grad.abs().sum() > 0 for weight in module.rationale.generator.parameters())


@families
def test_without_the_gate_it_is_the_module_as_it_was(name):
    module = gated(name)
    batch = batch_for(module)
    with torch.no_grad():
        gate_on, whole = module(batch), None
        with module.rationale.everything():
            whole = module(batch)
        module.detach_rationale()
        plain = module(batch)
    assert torch.equal(whole, plain)
    assert not torch.equal(gate_on, plain)
    assert not any("rationale" in name for name in module.state_dict())


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_a_text_is_selected_from_as_alone_whatever_pads_it(name, side):
    module = gated(name)
    module.tokenizer.padding_side = side
    together, z, selectable = selection_of(module, batch_for(module))
    alone, z_alone, there = selection_of(module, batch_of(module.tokenizer, [SHORT]))
    assert torch.equal(z[1][selectable[1]], z_alone[0][there[0]])
    assert torch.allclose(together[1], alone[0], atol=1e-6)


@families
def test_explanations_are_of_the_module_as_it_is_deployed(name):
    module = gated(name)
    batch = batch_for(module)
    logits, _, selectable = selection_of(module, batch)
    first = logits.argmax(dim=1)
    nothing = {**batch, "input_ids": torch.where(selectable, module.tokenizer.unk_token_id, batch["input_ids"])}
    with torch.no_grad():
        absent = module(nothing)
    for method in (IntegratedGradients(baseline="unk", steps=4, tolerance=None), Occlusion(baseline="unk")):
        record = method(module, batch, module.interpret_task())
        for told, deployed in ((record.target, logits), (record.baseline_target, absent)):
            assert torch.allclose(told, deployed[[0, 1], first].double(), atol=1e-5), method.name


@families
def test_what_can_not_be_selected_is_told_to_have_no_effect(name):
    width = 16
    reads = torch.nn.Linear(width, 1)  # each token by itself
    module = gated(name, rationale_generator=reads, rationale_evaluation="threshold")
    with torch.no_grad():
        module.rationale.gate.weight.fill_(1.0)
        module.rationale.gate.bias.fill_(-reads.bias.item() - 0.1)  # at zero, and on the way there, it is not selected
    batch = batch_for(module)
    _, z, selectable = selection_of(module, batch)
    left = selectable & (z == 0)
    assert left.any()
    assert (selectable & ~left).any()
    for method in (IntegratedGradients(baseline="zero", steps=4, tolerance=None), Occlusion(baseline="zero")):
        scores = method(module, batch, module.interpret_task()).scores
        assert scores[left].abs().max() < 1e-6, method.name  # batches of other sizes round otherwise
        assert scores[selectable & ~left].abs().max() > 1e-3, method.name


@pytest.mark.parametrize("generator", ["own", "shared", nn.Linear(16, 5)])
def test_an_encoder_in_half_precision_in_a_module_that_is_not(generator):
    module = gated("bert", rationale_generator=generator)
    module.model.bert.to(torch.bfloat16)
    module.model.classifier.to(torch.bfloat16)
    batch = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1])
    module.train().training_step(batch, 0).backward()
    assert module.rationale.gate.weight.dtype == torch.float32
    assert module.rationale.gate.weight.grad.abs().sum() > 0
    assert module.eval().explain(batch)[0].rate == pytest.approx(4 / 13)
