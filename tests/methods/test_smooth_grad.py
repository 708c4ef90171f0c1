"""SmoothGrad on models: what it ranks, its noise, and the attribution it is with a baseline."""

import captum.attr
import pytest
import torch
from tiny import Bag, BagTask, bag_task, batch_of, classifier, tokenizer_for, wordpiece

from lightning_interpret import Gradient, SmoothGrad, Taylor
from lightning_interpret.tasks import find_task

TEXTS = ("he is unaffable and dull", "not bad")


@pytest.fixture
def case():
    return Bag().double(), batch_of(wordpiece(), TEXTS), bag_task()


@pytest.mark.parametrize("norm", ["l2", "mean_abs"])
def test_without_noise_it_is_the_gradient(case, norm):
    record, expected = SmoothGrad(samples=2, sigma=0, norm=norm)(*case), Gradient(norm=norm)(*case)
    torch.testing.assert_close(record.scores, expected.scores)
    assert record.sampling_error.tolist() == [0, 0]


@pytest.mark.parametrize("layer", ["embedding", "hidden"])
def test_without_noise_it_is_taylor_where_it_has_a_baseline(case, layer):
    record = SmoothGrad(samples=3, sigma=0, baseline="pad")(*case, layer=layer)
    expected = Taylor()(*case, layer=layer)
    for name in ("scores", "error", "attribution_target", "relative_error"):
        torch.testing.assert_close(getattr(record, name).double(), getattr(expected, name).double())
    assert record.baseline == "pad"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("options", [{}, {"mode": "variance"}, {"baseline": "mask"}], ids=str)
def test_rows_are_what_they_are_alone(options, side):
    model, tokenizer = classifier("gpt2", dtype=torch.float64), tokenizer_for("gpt2", padding_side=side)
    task, method = find_task(model, tokenizer=tokenizer), SmoothGrad(samples=5, **options)
    together = method(model, batch_of(tokenizer, TEXTS), task)
    split = SmoothGrad(samples=5, internal_batch_size=3, **options)(model, batch_of(tokenizer, TEXTS), task)
    torch.testing.assert_close(split.scores, together.scores, rtol=0, atol=1e-10)
    for row, text in zip(together, TEXTS, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-10)
        assert row.sampling_error == pytest.approx(alone.sampling_error, abs=1e-9)
    assert together.scores[together.units.padding].abs().sum() == 0


def test_one_seed_is_one_result_to_the_last_bit(case):
    state = torch.get_rng_state()
    first, again, other = (SmoothGrad(seed=seed)(*case) for seed in (1, 1, 2))
    assert torch.equal(first.scores, again.scores)
    assert not torch.equal(first.scores, other.scores)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.gradients.tolist() == first.steps.tolist() == [32, 32]


@pytest.mark.parametrize("options", [{}, {"mode": "squared"}, {"mode": "variance"}, {"baseline": "pad"}], ids=str)
def test_the_sampling_error_says_how_far_it_still_moves(case, options):
    exact = SmoothGrad(samples=800, seed=9, **options)(*case)
    few, more = (SmoothGrad(samples=samples, **options)(*case) for samples in (10, 160))
    for record, samples in ((few, 10), (more, 160)):
        assert bool((record.sampling_error > 0).all())
        moved = (record.scores - exact.scores).abs().sum(dim=1) / exact.scores.abs().sum(dim=1)
        assert bool((moved < 3 * record.sampling_error).all()), samples
    assert bool((more.sampling_error < few.sampling_error / 2).all())


def test_the_noise_is_a_share_of_the_range_of_the_content(case):
    model, batch, task = case
    seen = []

    class Watched(torch.nn.Module):
        def forward(self, hidden):
            seen.append(hidden.detach().clone())
            return hidden

    model.middle = Watched()
    SmoothGrad(samples=200, sigma=0.2, internal_batch_size=2)(model, batch, task)
    with torch.no_grad():
        embedded = model.embedding(batch["input_ids"])
    units = task.units(batch)
    content = ~(units.special | units.padding)
    points = torch.stack([value for value in seen if value.shape == embedded.shape][-200:])
    order = units.padding.sum(dim=1).argsort(stable=True)
    noise = (points - embedded[order])[:, order.argsort()]
    for row in range(2):
        real = embedded[row][content[row]]
        expected = 0.2 * float(real.max() - real.min())
        assert float(noise[:, row][:, ~units.padding[row]].std()) == pytest.approx(expected, rel=0.05)
        assert noise[:, row][:, units.padding[row]].abs().sum() == 0


@pytest.mark.parametrize(
    ("mode", "peer"), [("mean", "smoothgrad"), ("squared", "smoothgrad_sq"), ("variance", "vargrad")]
)
def test_it_agrees_with_captum_within_their_sampling_errors(mode, peer):
    model, tokenizer = classifier("bert", dtype=torch.float64), wordpiece()
    batch = batch_of(tokenizer, ["a dull film"])
    ids, task = batch["input_ids"], find_task(model, tokenizer=tokenizer)
    words = model.get_input_embeddings()
    embedded = words(ids).detach()

    def from_embeddings(values):
        return model(inputs_embeds=values, attention_mask=torch.ones(values.shape[:2], dtype=torch.long)).logits

    label = int(from_embeddings(embedded).argmax())
    content = embedded[0, 1:-1]
    torch.manual_seed(0)
    expected = captum.attr.NoiseTunnel(captum.attr.Saliency(from_embeddings)).attribute(
        embedded,
        nt_type=peer,
        nt_samples=600,
        nt_samples_batch_size=200,
        stdevs=0.05 * float(content.max() - content.min()),
        target=label,
        abs=False,
    )
    record = SmoothGrad(mode=mode, samples=600, sigma=0.05)(model, batch, task)
    off = (record.scores - expected.norm(dim=-1)).abs().sum() / record.scores.sum()
    assert float(record.sampling_error) < 0.25
    assert float(off) < 3 * float(record.sampling_error)


def test_the_cost_is_counted():
    counted = {True: 0, False: 0}

    class Counts(BagTask):
        def logits(self, module, batch):
            logits = super().logits(module, batch)
            counted[logits.requires_grad] += len(logits)
            return logits

    model, batch, task = Bag(), batch_of(wordpiece(), TEXTS), Counts(wordpiece())
    for method in (SmoothGrad(samples=5), SmoothGrad(samples=5, baseline="pad"), Taylor(), Taylor(at="baseline")):
        method(model, batch, task)  # also makes a trial of the layer
        counted.update({True: 0, False: 0})
        record = method(model, batch, task)
        assert counted == {True: int(record.gradients.sum()), False: int(record.forwards.sum())}


def test_a_single_sample_has_no_sampling_error(case):
    record = SmoothGrad(samples=1)(*case)
    assert record.sampling_error is None
    assert record.reasons["sampling_error"] == "one sample has no spread"
    assert "ranks" in record.reasons["attribution_target"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, r"`samples=0` must be a whole number of at least 1"),
        ({"samples": 1, "mode": "variance"}, r"`samples=1` must be a whole number of at least 2"),
        ({"sigma": -0.1}, r"`sigma=-0.1` must be a finite share"),
        ({"sigma": float("nan")}, r"`sigma=nan` must be a finite share"),
        ({"seed": -1}, r"`seed=-1` must be a whole number"),
        ({"mode": "var"}, r"`mode='var'` does not exist"),
        ({"norm": "l1"}, r"`norm='l1'` does not exist"),
        ({"baseline": "padd"}, r"Did you mean 'pad'"),
        ({"baseline": "pad", "mode": "squared"}, r"`baseline='pad'` with mode='squared', norm=None"),
        ({"baseline": "pad", "norm": "l2"}, r"`baseline='pad'` with mode='mean', norm='l2'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SmoothGrad(**options)
