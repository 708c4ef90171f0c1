"""Agreement with Captum where it computes the same thing."""

import captum.attr
import pytest
import torch
from tiny import batch_of, classifier, tokenizer_for

from lightning_interpret import Gradient, GradientTimesInput, IntegratedGradients
from lightning_interpret.tasks import find_task


@pytest.fixture(params=["bert", "distilbert", "llama"])
def case(request):
    model, tokenizer = classifier(request.param, dtype=torch.float64), tokenizer_for(request.param)
    batch = batch_of(tokenizer)
    ids, mask = batch["input_ids"], batch["attention_mask"]

    def forward(ids, mask):
        return model(input_ids=ids, attention_mask=mask).logits

    with torch.no_grad():
        target = forward(ids, mask).argmax(dim=1)
    return model, batch, find_task(model, tokenizer=tokenizer), forward, (ids, mask), target


def test_integrated_gradients_agree(case):
    model, batch, task, forward, (ids, mask), target = case
    absent = ids.where((ids == 2) | (ids == 3), 0)  # PAD at the content
    peer = captum.attr.LayerIntegratedGradients(forward, model.get_input_embeddings())
    expected = peer.attribute(
        ids, baselines=absent, additional_forward_args=(mask,), target=target, n_steps=50, method="gausslegendre"
    ).sum(dim=-1)
    record = IntegratedGradients(steps=50, rule="gauss_legendre", tolerance=None)(model, batch, task)
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(record.scores, expected, rtol=0, atol=1e-6)


def test_gradient_times_input_agrees(case):
    model, batch, task, forward, (ids, mask), target = case
    peer = captum.attr.LayerGradientXActivation(forward, model.get_input_embeddings())
    expected = peer.attribute(ids, additional_forward_args=(mask,), target=target).sum(dim=-1).detach()
    record = GradientTimesInput()(model, batch, task)
    real = mask.bool()
    assert float(expected[real].abs().max()) > 1e-3
    torch.testing.assert_close(record.scores[real], expected[real], rtol=0, atol=1e-6)
    assert record.scores[~real].abs().sum() == 0


@pytest.mark.parametrize("norm", ["l2", "mean_abs"])
def test_gradients_agree(case, norm):
    model, batch, task, forward, (ids, mask), target = case
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()

    def from_embeddings(embedded):
        handle = model.get_input_embeddings().register_forward_hook(lambda module, args, output: embedded)
        try:
            return forward(ids, mask)
        finally:
            handle.remove()

    slopes = captum.attr.Saliency(from_embeddings).attribute(embeddings, target=target, abs=True)
    expected = slopes.norm(dim=-1) if norm == "l2" else slopes.mean(dim=-1)
    record = Gradient(norm=norm)(model, batch, task)
    torch.testing.assert_close(record.scores[mask.bool()], expected[mask.bool()], rtol=0, atol=1e-6)
