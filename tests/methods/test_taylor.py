"""Taylor at either end: the same as gradient × input and as one node of integrated gradients, and a peer's."""

import captum.attr
import pytest
import torch
from tiny import Bag, bag_task, batch_of, classifier, tokenizer_for, wordpiece

from lightning_interpret import Baseline, GradientTimesInput, IntegratedGradients, Taylor
from lightning_interpret.tasks import find_task

ENDS = [("input", "right"), ("baseline", "left")]


@pytest.fixture
def case():
    return Bag().double(), batch_of(wordpiece()), bag_task()


@pytest.mark.parametrize("baseline", ["pad", "mask", "text: a film", Baseline("zero", keep_special=False)])
def test_at_the_input_it_is_gradient_times_input(case, baseline):
    ours, same = Taylor(baseline=baseline)(*case), GradientTimesInput(baseline=baseline)(*case)
    assert torch.equal(ours.scores, same.scores)
    assert torch.equal(ours.error, same.error)
    assert (ours.method, same.method) == ("taylor", "gradient_times_input")
    assert ours.baseline == same.baseline == Baseline.ensure(baseline).name


@pytest.mark.parametrize(("at", "rule"), ENDS)
@pytest.mark.parametrize("layer", ["embedding", "hidden"])
def test_it_is_integrated_gradients_with_one_node(case, at, rule, layer):
    ours = Taylor(at=at)(*case, layer=layer)
    path = IntegratedGradients(rule=rule, steps=1, tolerance=None)(*case, layer=layer)
    assert float(ours.scores.abs().max()) > 1e-3
    torch.testing.assert_close(ours.scores, path.scores, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(ours.error, path.error)
    assert torch.equal(ours.attribution_target, path.attribution_target)


def test_the_error_is_what_the_first_order_leaves_of_the_whole_path(case):
    """IG has every order: what Taylor says more or less than it, unit by unit, sums to Taylor's error."""
    whole = IntegratedGradients(tolerance=1e-9, max_steps=1024)(*case)
    errors = {}
    for at, _ in ENDS:
        record = Taylor(at=at)(*case)
        errors[at] = record.error
        torch.testing.assert_close(record.error, (record.scores - whole.scores).sum(dim=1), rtol=0, atol=1e-8)
        torch.testing.assert_close(record.attribution_target, record.target - record.baseline_target)
    assert float(errors["input"].abs().min()) > 1e-3
    assert bool((errors["input"] * errors["baseline"] < 0).all())  # F bends one way along these paths


@pytest.mark.parametrize("at", ["input", "baseline"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_it_agrees_with_captum(name, at):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name)
    batch = batch_of(tokenizer)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    absent = ids.where((ids == 2) | (ids == 3) | (mask == 0), 0)  # PAD at the content
    words = model.get_input_embeddings()
    embedded, reference = words(ids).detach(), words(absent).detach()

    def from_embeddings(values):
        handle = words.register_forward_hook(lambda module, args, output: values)
        try:
            return model(input_ids=ids, attention_mask=mask).logits
        finally:
            handle.remove()

    peer, label = captum.attr.Saliency(from_embeddings), from_embeddings(embedded).argmax(dim=1)
    point = (embedded if at == "input" else reference).requires_grad_()
    expected = ((embedded - reference) * peer.attribute(point, target=label, abs=False)).sum(dim=-1).detach()
    record = Taylor(at=at)(model, batch, find_task(model, tokenizer=tokenizer))
    assert float(expected.abs().max()) > 1e-3
    torch.testing.assert_close(record.scores, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("at", ["input", "baseline"])
def test_padding_changes_nothing(at, side):
    model, tokenizer = classifier("llama", dtype=torch.float64), tokenizer_for("llama", padding_side=side)
    task, texts = find_task(model, tokenizer=tokenizer), ["he is unaffable and a very good film", "not bad"]
    together = Taylor(at=at)(model, batch_of(tokenizer, texts), task)
    for row, text in zip(together, texts, strict=True):
        alone = Taylor(at=at)(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-12)
        assert row.error == pytest.approx(alone.error, abs=1e-12)
    assert together.scores[together.units.padding].abs().sum() == 0


def test_a_point_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"`at='inputs'` does not exist\. Did you mean 'input'"):
        Taylor(at="inputs")
