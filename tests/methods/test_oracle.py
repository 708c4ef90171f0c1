"""Integrated gradients against a slow reading of its definition: a loop over one example, in float64."""

import pytest
import torch
from tiny import VOCABULARY, batch_of, lively, wordpiece
from transformers import BertConfig, BertForSequenceClassification

from lightning_interpret import GradientTimesInput, IntegratedGradients
from lightning_interpret.tasks import find_task

NODES = 2000


@pytest.fixture(scope="module")
def bert():
    config = BertConfig(
        vocab_size=VOCABULARY,
        num_labels=2,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=12,
        max_position_embeddings=12,
    )
    return lively(BertForSequenceClassification(config)).double()


def ends(model, batch):
    """Embeddings at x and x', the mask, and the class predicted, without the package."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    absent = torch.tensor([[i if i in (0, 2, 3) else 0 for i in row] for row in ids.tolist()])
    with torch.no_grad():
        words = model.get_input_embeddings()
        return words(ids), words(absent), mask, int(model(input_ids=ids, attention_mask=mask).logits.argmax())


def test_integrated_gradients_is_its_definition(bert):
    tokenizer = wordpiece()
    batch = batch_of(tokenizer, ["the film was not bad"])
    x, baseline, mask, label = ends(bert, batch)
    total = torch.zeros_like(x)
    for node in range(NODES):
        point = (baseline + (node + 0.5) / NODES * (x - baseline)).requires_grad_()
        logit = bert(inputs_embeds=point, attention_mask=mask).logits[0, label]
        total += torch.autograd.grad(logit, point)[0]
    expected = ((x - baseline) * total / NODES).sum(dim=-1)
    method = IntegratedGradients(tolerance=1e-6, max_steps=4096)
    record = method(bert, batch, find_task(bert, tokenizer=tokenizer))
    assert record.converged == (True,)
    assert float(expected.abs().max()) > 0.01
    torch.testing.assert_close(record.scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("output", ["logit", "log_prob", "prob", "margin"])
def test_gradient_times_input_is_its_definition_for_every_output(bert, output):
    tokenizer = wordpiece()
    batch = batch_of(tokenizer, ["the film was not bad"])
    x, baseline, mask, label = ends(bert, batch)
    point = x.clone().requires_grad_()
    logits = bert(inputs_embeds=point, attention_mask=mask).logits[0]
    value = {
        "logit": logits[label],
        "log_prob": logits.log_softmax(0)[label],
        "prob": logits.softmax(0)[label],
        "margin": logits[label] - logits[1 - label],
    }[output]
    expected = ((x - baseline) * torch.autograd.grad(value, point)[0]).sum(dim=-1)
    record = GradientTimesInput(baseline="pad")(bert, batch, find_task(bert, tokenizer=tokenizer), output=output)
    torch.testing.assert_close(record.scores, expected, rtol=0, atol=1e-12)
    assert float(record.target) == pytest.approx(float(value))
