"""Golden case T6 on models: what a token's scores sum to, measured for each."""

import pytest
import torch
from tiny import Bag, BagTask, bag_task, batch_of, classifier, wordpiece
from tiny_images import images_of, model_of

from lightning_interpret import (
    Baseline,
    IntegratedGradients,
    Occlusion,
    SequentialIntegratedGradients,
    SmoothGrad,
    Taylor,
)
from lightning_interpret.tasks import find_task

TEXTS = ("he is unaffable and dull", "not bad")


@pytest.fixture
def case():
    return Bag().double(), batch_of(wordpiece(), TEXTS), bag_task()


def left_out(model, batch, groups, absent, label):
    """F(x) − F(x with a group of places at the id ``absent``), one group after another, without the package."""
    ids, mask = batch["input_ids"], batch["attention_mask"]

    def logit(ids):
        with torch.no_grad():
            return float(model(input_ids=ids, attention_mask=mask).logits[0, label])

    return [logit(ids) - logit(ids.index_fill(1, torch.tensor(group), absent)) for group in groups]


@pytest.mark.parametrize("seed", [0, 1])
def test_t6_each_score_is_what_is_lost_without_the_token(seed):
    model, tokenizer = classifier("bert", seed=seed, dtype=torch.float64), wordpiece()
    batch = batch_of(tokenizer, ["he is unaffable"])
    method = SequentialIntegratedGradients(rule="gauss_legendre", steps=30, tolerance=None)
    record = method(model, batch, find_task(model, tokenizer=tokenizer))
    expected = left_out(model, batch, [[place] for place in range(1, 6)], 4, int(record.target_name[0][-1]))
    assert max(abs(value) for value in expected) > 1e-2
    assert record[0].scores == pytest.approx((0, *expected, 0), abs=1e-8)
    assert record[0].unit_errors == pytest.approx((0,) * 7, abs=1e-8)
    assert float(record.attribution_target) == pytest.approx(sum(expected), abs=1e-8)
    assert float(record.error) == pytest.approx(0, abs=1e-8)
    # another number altogether, which peers report as the error
    assert abs(sum(expected) - float(record.target - record.baseline_target)) > 1e-2
    assert record.converged is None


def test_t6_is_met_by_refinement_where_the_tolerance_is_tight(case):
    record = SequentialIntegratedGradients(tolerance=1e-8, max_steps=2048)(*case)
    assert record.converged == (True, True)
    assert float(record.unit_errors.abs().max()) < 1e-8
    torch.testing.assert_close(record.scores, Occlusion("mask")(*case).scores, rtol=0, atol=1e-8)


def test_units_with_next_to_no_target_take_no_more_than_the_others():
    model, tokenizer = classifier("bert"), wordpiece()
    batch, task = batch_of(tokenizer, TEXTS), find_task(model, tokenizer=tokenizer)
    record = SequentialIntegratedGradients()(model, batch, task)
    targets = record.scores - record.unit_errors
    floor = targets.abs().sum(dim=1, keepdim=True) / (targets != 0).sum(dim=1, keepdim=True).sqrt()
    assert all(record.converged)
    assert bool((record.unit_errors.abs() <= 0.01 * torch.maximum(targets.abs(), floor)).all())
    each = SequentialIntegratedGradients(steps=16)(model, batch, task)
    assert int(record.gradients.sum()) < int(each.gradients.sum())


def test_a_word_leaves_as_one():
    model, tokenizer = classifier("bert", dtype=torch.float64), wordpiece()
    batch = batch_of(tokenizer, ["he is unaffable"])
    method = SequentialIntegratedGradients(baseline="pad", unit="word", tolerance=1e-6, max_steps=512)
    record = method(model, batch, find_task(model, tokenizer=tokenizer))
    expected = left_out(model, batch, [[1], [2], [3, 4, 5]], 0, int(record.target_name[0][-1]))
    assert [word.score for word in record[0].merged()] == pytest.approx([0, *expected, 0], abs=1e-5)
    assert len(set(record[0].scores[3:6])) == 3  # what each of its tokens adds along the word's path
    assert record[0].unit_errors[3] == pytest.approx((sum(record[0].scores[3:6]) - expected[2]) / 3, abs=1e-12)
    assert record.converged == (True,)


def test_rows_are_what_they_are_alone(case):
    model, batch, task = case
    method = SequentialIntegratedGradients(steps=4, tolerance=1e-3)
    record = method(model, batch, task)
    split = SequentialIntegratedGradients(steps=4, tolerance=1e-3, internal_batch_size=2)(model, batch, task)
    torch.testing.assert_close(split.scores, record.scores, rtol=0, atol=1e-12)
    for row, text in zip(record, TEXTS, strict=True):
        alone = method(model, batch_of(task.tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-12)
        assert row.unit_errors == pytest.approx(alone.unit_errors, abs=1e-12)
        assert (row.steps, row.gradients, row.attribution_target) == pytest.approx(
            (alone.steps, alone.gradients, alone.attribution_target)
        )
    assert record.scores[record.units.padding].abs().sum() == 0


def test_units_that_are_as_in_the_baseline_are_not_run(case):
    model, _, task = case
    batch = batch_of(task.tokenizer, ["he [MASK] dull [MASK]", ""])
    record = SequentialIntegratedGradients(steps=4, tolerance=None)(model, batch, task)
    assert [score != 0 for score in record[0].scores] == [False, True, False, True, False, False]
    assert record.gradients.tolist() == [2 * 4, 0]
    assert record.steps.tolist() == [4, 0]
    assert record.scores[1].abs().sum() == 0
    assert record[1].error == record[1].attribution_target == 0


def test_the_cost_is_counted():
    """Counted at the model; the first call also makes a trial of the layer, so that the second is counted."""
    model, batch = Bag().double(), batch_of(wordpiece(), TEXTS)
    with torch.no_grad():
        model.hidden.weight.mul_(30)
    counted = {True: 0, False: 0}

    class Counts(BagTask):
        def logits(self, module, batch):
            logits = super().logits(module, batch)
            counted[logits.requires_grad] += len(logits)
            return logits

    method, counting = SequentialIntegratedGradients(steps=4, tolerance=1e-3, max_steps=64), Counts(wordpiece())
    method(model, batch, counting)
    counted.update({True: 0, False: 0})
    record = method(model, batch, counting)
    assert int(record.steps.max()) > 4
    assert int(record.gradients.sum()) == counted[True]
    assert int(record.forwards.sum()) == counted[False]


def test_a_row_has_converged_where_every_unit_has(case):
    model, batch, task = case
    loose = SequentialIntegratedGradients(steps=1, max_steps=3, tolerance=1e-6)(model, batch, task)
    assert False in loose.converged
    assert float(loose.unit_errors.abs().max()) > 1e-6
    torch.testing.assert_close(loose.error, loose.unit_errors.sum(dim=1), rtol=0, atol=1e-12)
    tight = SequentialIntegratedGradients(tolerance=1e-6, max_steps=512)(model, batch, task)
    assert tight.converged == (True, True)
    assert float(tight.partial_error.max()) <= 1e-6
    assert float(tight.unit_errors.abs().max()) < float(loose.unit_errors.abs().max())


@pytest.mark.parametrize("layer", ["middle", "hidden"])
def test_any_layer(case, layer):
    model, batch, task = case
    record = SequentialIntegratedGradients(steps=8)(model, batch, task, layer=layer)
    assert record.units.kind == {"middle": "token", "hidden": "feature"}[layer]
    assert all(record.converged)
    if layer == "middle":
        expected = SequentialIntegratedGradients(steps=8)(model, batch, task)
        torch.testing.assert_close(record.scores, expected.scores)


def test_special_tokens_have_a_score_where_the_baseline_replaces_them(case):
    record = SequentialIntegratedGradients(baseline=Baseline("zero", keep_special=False))(*case)
    real = ~record.units.padding
    assert bool((record.scores[real] != 0).all())
    assert record.scores[~real].abs().sum() == 0


def test_one_unit_is_integrated_gradients(case):
    model, _, task = case
    batch = batch_of(task.tokenizer, ["dull"])
    ours = SequentialIntegratedGradients(baseline="pad", steps=16)(model, batch, task)
    torch.testing.assert_close(ours.scores, IntegratedGradients()(model, batch, task).scores)
    assert float(ours.attribution_target) == pytest.approx(float(ours.target - ours.baseline_target))


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match=r"`unit='words'` does not exist\. Did you mean 'word'"):
        SequentialIntegratedGradients(unit="words")
    with pytest.raises(ValueError, match=r"`rule='left'` has fixed steps"):
        SequentialIntegratedGradients(rule="left")


def test_patches_of_an_image_lose_what_occlusion_says():
    model, batch = model_of("vit"), images_of(rows=1)
    task, layer = find_task(model), "vit.embeddings"
    method = SequentialIntegratedGradients(baseline="blur", rule="gauss_legendre", steps=30, tolerance=None)
    record = method(model, batch, task, layer=layer)
    lost = Occlusion("blur")(model, batch, task, layer=layer)
    assert record.units.kind == "location"
    assert float(lost.scores.abs().max()) > 1e-3
    torch.testing.assert_close(record.scores, lost.scores, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_of_an_image_smoothed_gradients_without_noise_are_taylor(name):
    model, batch = model_of(name), images_of()
    record = SmoothGrad(samples=2, sigma=0, baseline="blur")(model, batch, find_task(model), layer="pixel_values")
    expected = Taylor()(model, batch, find_task(model), layer="pixel_values")
    assert expected.baseline.startswith("blur")
    torch.testing.assert_close(record.scores, expected.scores)
    noisy = SmoothGrad(samples=2)(model, batch, find_task(model), layer="pixel_values")
    assert bool((noisy.scores > 0).any())
    assert noisy.scores.shape == expected.scores.shape
