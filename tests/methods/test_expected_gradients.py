"""Expected gradients: completeness, padding, batches, a slow reading of the definition, and Captum's GradientShap."""

import captum.attr
import pytest
import torch
from tiny import REFERENCES, TEXTS, Bag, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from torch import nn

from lightning_interpret import Baseline, ExpectedGradients, IntegratedGradients
from lightning_interpret.tasks import find_task


def distilbert_case():
    model, tokenizer = classifier("distilbert", dtype=torch.float64), wordpiece()
    task = find_task(model, tokenizer=tokenizer)
    return model, batch_of(tokenizer), task.with_references(batch_of(tokenizer, REFERENCES))


def laid(ids, reference):
    """The ids of a text with the content of a reference laid on it, one by one."""
    content = [token for token in reference if token not in (0, 2, 3)]
    found, taken = [], 0
    for token in ids:
        if token in (0, 2, 3):
            found.append(token)
        else:
            found.append(content[taken % len(content)])
            taken += 1
    return found


def absent_ids(batch, references):
    """The ids of every text at every reference, ``(B, R, T)``, without the package."""
    return torch.tensor(
        [[laid(row, other) for other in references["input_ids"].tolist()] for row in batch["input_ids"].tolist()]
    )


def test_it_is_its_definition():
    """Every reference, 400 places on its path, each text alone: float64, without the package."""
    model, batch, task = distilbert_case()
    absent = absent_ids(batch, task.references)
    words, expected, at_references = model.get_input_embeddings(), [], []
    for row in range(2):
        mask = batch["attention_mask"][row : row + 1]
        x = words(batch["input_ids"][row : row + 1]).detach()
        label = int(model(inputs_embeds=x, attention_mask=mask).logits.argmax())
        total, values = torch.zeros_like(x[0, :, 0]), []
        for other in absent[row]:
            start = words(other[None]).detach()
            places = (torch.arange(400).double()[:, None, None] + 0.5) / 400
            points = (start + places * (x - start)).requires_grad_()
            logits = model(inputs_embeds=points, attention_mask=mask.expand(400, -1)).logits[:, label]
            (slope,) = torch.autograd.grad(logits.sum(), points)
            total += ((x - start) * slope.mean(dim=0)).sum(dim=-1)[0] / len(absent[row])
            values.append(model(inputs_embeds=start, attention_mask=mask).logits[0, label].detach())
        expected.append(total)
        at_references.append(torch.stack(values))
    record = ExpectedGradients(samples=2000)(model, batch, task)
    torch.testing.assert_close(record.scores, torch.stack(expected), rtol=0, atol=2e-3)
    assert float(torch.stack(expected).abs().max()) > 0.1
    values = torch.stack(at_references)
    torch.testing.assert_close(record.baseline_target, values.mean(dim=1))
    torch.testing.assert_close(record.baseline_spread, values.std(dim=1, unbiased=False))
    torch.testing.assert_close(record.attribution_target, record.target - values.mean(dim=1))
    assert float(record.error.abs().max()) < 0.01
    assert record.baseline == "distribution"
    assert float(record.sampling_error.max()) < 0.02


def test_the_error_falls_with_the_samples():
    model, batch, task = distilbert_case()
    few, many = (
        torch.stack(
            [ExpectedGradients(samples=samples, seed=seed)(model, batch, task).error.abs() for seed in range(5)]
        )
        for samples in (10, 160)
    )
    assert float(many.mean()) < float(few.mean()) / 4


@pytest.mark.parametrize("layer", [None, "distilbert.transformer.layer.0", "pre_classifier"])
def test_deeper_layers_have_the_references_own_features(layer):
    model, tokenizer = classifier("distilbert", dtype=torch.float64), wordpiece()
    task = find_task(model, tokenizer=tokenizer).with_references(batch_of(tokenizer, REFERENCES))
    words = ExpectedGradients(samples=400)(model, batch_of(tokenizer), task)
    record = ExpectedGradients(samples=400)(model, batch_of(tokenizer), task, layer=layer)
    assert record.cut
    torch.testing.assert_close(record.baseline_target, words.baseline_target)
    torch.testing.assert_close(record.baseline_entropy, words.baseline_entropy)
    torch.testing.assert_close(record.scores.sum(dim=1), record.attribution_target, rtol=0, atol=0.02)


def test_one_reference_is_integrated_gradients_at_it():
    model, batch, task = distilbert_case()
    tokenizer = task.tokenizer
    task = task.with_references(batch_of(tokenizer, ["dull movie ."]))
    record = ExpectedGradients(samples=1000)(model, batch, task)
    expected = IntegratedGradients(baseline="text: dull movie .", tolerance=1e-6, max_steps=2000)(model, batch, task)
    torch.testing.assert_close(record.scores, expected.scores, rtol=0, atol=2e-3)
    torch.testing.assert_close(record.baseline_target, expected.baseline_target)
    assert record.baseline_spread.tolist() == [0, 0]


@pytest.mark.parametrize(("name", "side"), [("bert", "right"), ("llama", "right"), ("llama", "left")])
def test_a_text_has_the_scores_that_it_has_alone(name, side):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name, padding_side=side)
    model.config.pad_token_id = tokenizer.pad_token_id
    task = find_task(model, tokenizer=tokenizer).with_references(batch_of(tokenizer, REFERENCES))
    method = ExpectedGradients(samples=20)
    record = method(model, batch_of(tokenizer), task)
    assert record.scores[record.units.padding].abs().sum() == 0
    for row, text in zip(record, TEXTS, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-9)
        assert row.baseline_target == pytest.approx(alone.baseline_target)
        assert row.baseline_entropy == pytest.approx(alone.baseline_entropy)
        assert row.sampling_error == pytest.approx(alone.sampling_error)


def test_references_are_what_their_content_is_whatever_pads_them():
    model, batch, task = distilbert_case()
    padded = batch_of(task.tokenizer, [*REFERENCES, "he is a very very good player and the film is great ."])
    wide = {name: value[:-1] for name, value in padded.items() if isinstance(value, torch.Tensor)}
    assert wide["input_ids"].shape[1] > task.references["input_ids"].shape[1]
    method = ExpectedGradients(samples=10)
    expected, found = method(model, batch, task), method(model, batch, task.with_references(wide))
    torch.testing.assert_close(found.scores, expected.scores)


def test_it_agrees_with_captum_within_the_sampling_error():
    model, batch, task = distilbert_case()
    absent = absent_ids(batch, task.references)
    words = model.get_input_embeddings()
    record = ExpectedGradients(samples=1000)(model, batch, task)
    for row in range(2):
        mask = batch["attention_mask"][row : row + 1]

        def forward(embedded, mask=mask):
            return model(inputs_embeds=embedded, attention_mask=mask.expand(len(embedded), -1)).logits

        x = words(batch["input_ids"][row : row + 1]).detach()
        with torch.no_grad():
            label = int(forward(x).argmax())
        torch.manual_seed(row)
        runs = torch.cat(
            [
                captum.attr.GradientShap(forward)
                .attribute(x, baselines=words(absent[row]).detach(), n_samples=200, stdevs=0.0, target=label)
                .sum(dim=-1)
                for _ in range(10)
            ]
        ).detach()
        spread = runs.std(dim=0) / 10**0.5
        off = (runs.mean(dim=0) - record.scores[row]).abs()
        assert bool((off <= 5 * spread + 5e-3).all())
        assert float(record.scores[row].abs().max()) > 10 * float(spread.max())


def test_rows_say_what_was_sampled():
    model, batch, task = Bag().double(), batch_of(wordpiece()), bag_task()
    record = ExpectedGradients(samples=20)(model, batch, task)
    assert record.steps.tolist() == record.gradients.tolist() == [20, 20]
    assert record.converged is None
    assert "sampling_error" in record.reasons["converged"]
    assert bool((record.baseline_spread > 0).all())
    assert " ± " in record[0].summary()
    assert torch.equal(record.scores, ExpectedGradients(samples=20)(model, batch, task).scores)
    assert not torch.equal(record.scores, ExpectedGradients(samples=20, seed=1)(model, batch, task).scores)
    scaled = Bag().double()
    scaled.load_state_dict(model.state_dict())
    nn.init.zeros_(scaled.head.weight)
    assert ExpectedGradients(samples=20)(scaled, batch, task).sampling_error.tolist() == [0, 0]


def test_special_tokens_may_be_absent_too():
    model, batch, task = distilbert_case()
    record = ExpectedGradients(baseline=Baseline("distribution", keep_special=False), samples=10)(model, batch, task)
    assert record.baseline == "distribution (special tokens too)"
    ends = (batch["input_ids"] == 3).nonzero()
    assert float(record.scores[ends[:, 0], ends[:, 1]].abs().min()) > 1e-4  # another token stands at [SEP]


@pytest.mark.parametrize("samples", [0, 7, 2.0, None])
def test_samples_come_in_pairs(samples):
    with pytest.raises(ValueError, match=rf"`samples={samples}` must be an even whole number of at least 2"):
        ExpectedGradients(samples=samples)


def test_a_distribution_is_of_this_method_and_one_baseline_of_the_others():
    with pytest.raises(
        ValueError, match=r"`baseline='distribution'`: integrated_gradients takes no such baseline; a di"
    ):
        IntegratedGradients(baseline="distribution")
    with pytest.raises(ValueError, match=r"of baselines is of .*expected_gradients"):
        IntegratedGradients(baseline="distribution")
    with pytest.raises(
        ValueError, match=r"`baseline='pad'`: expected_gradients takes no .* is of .*integrated_gradients"
    ):
        ExpectedGradients(baseline="pad")
