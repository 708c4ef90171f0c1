"""LandmarkRelevance: every logit is its landmarks and what was absorbed, and the record says what they are."""

import pytest
import torch
from kernel_bag import LABELS, LANDMARKS, KernelBag, kernel_bag
from purity import assert_same, state_of
from sklearn.kernel_ridge import KernelRidge
from tiny import REFERENCES, TEXTS, batch_of, classifier, lively, tokenizer_for
from torch import nn

from lightning_interpret import LandmarkRelevance, LandmarksRow, LayerwiseRelevance
from lightning_interpret.layers import Landmark, NystroemLayer
from lightning_interpret.methods.landmarks import NOTHING_SPEAKS
from lightning_interpret.tasks import find_task

KERNELS = ("linear", "polynomial", "cosine", "rbf")
ALL = LandmarkRelevance(k=len(LANDMARKS))


def told(row):
    return {each.example_id: each.score for each in (*row.like, *row.unlike)}


def mlp(bias):
    """A head of two layers."""
    return nn.Sequential(nn.Linear(8, 12, bias=bias), nn.ReLU(), nn.Linear(12, 3, bias=bias))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("which", ["predicted", "good", "bad-good"])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_landmarks_and_bias_sum_to_the_logit(kernel, which, dtype, within):
    for head in (None, mlp(bias=True)):
        model, task = kernel_bag(kernel, head=head, dtype=dtype)
        batch = batch_of(task.tokenizer)
        logits = task.logits(model, batch).detach()
        for i, row in enumerate(ALL(model, batch, task, which=which)):
            scores = {"good": 2, "bad": 0, "predicted": int(logits[i].argmax())}
            first, *others = (float(logits[i, scores[name]]) for name in which.split("-"))
            target = first - sum(others)
            assert row.target == pytest.approx(target, abs=1e-6 if dtype == torch.float32 else 1e-12)
            assert set(row.absorbed) == {"bias"}
            scale = within * max(abs(target), 1) if dtype == torch.float64 else within * max(1, row.magnitude)
            assert sum(told(row).values()) + row.absorbed["bias"] == pytest.approx(target, abs=scale)
            assert abs(row.error) <= scale


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_a_head_without_bias_relevance_is_gradient_times_input(kernel):
    model, task = kernel_bag(kernel, head=mlp(bias=False))
    batch = batch_of(task.tokenizer, REFERENCES)
    with torch.no_grad():
        c = model.kernel.gram(model.encode(batch["input_ids"], batch["attention_mask"]))
    c.requires_grad_()
    logits = model.head(c @ model.kernel.factor.T @ model.kernel.projection.T)
    top = logits.amax(dim=1)
    (gradient,) = torch.autograd.grad(top.sum(), c)
    c, top = c.detach(), top.detach()
    for i, row in enumerate(ALL(model, batch, task)):
        assert row.absorbed == {}
        expected = {100 + j: score for j, score in enumerate((c * gradient)[i].tolist()) if score}
        assert told(row) == pytest.approx(expected, abs=1e-8 * float(top[i].abs()))
        assert sum(told(row).values()) == pytest.approx(float(top[i]), rel=1e-8)
        assert {each.example_id: each.similarity for each in row.like} == pytest.approx(
            {each.example_id: float(c[i, each.example_id - 100]) for each in row.like}
        )


def test_epsilon_breaks_conservation_and_what_it_takes_is_told_by_name():
    model, task = kernel_bag(head=mlp(bias=False))
    batch = batch_of(task.tokenizer, REFERENCES)
    exact, broken = ALL(model, batch, task), LandmarkRelevance(k=8, epsilon=0.01)(model, batch, task)
    for row, other in zip(exact, broken, strict=True):
        assert set(other.absorbed) == {"epsilon"}
        missing = other.target - sum(told(other).values())
        assert other.absorbed["epsilon"] == pytest.approx(missing, rel=1e-9)
        assert abs(other.error) < 1e-12 > abs(row.error)
    assert max(abs(row.absorbed["epsilon"] / row.target) for row in broken) > 0.02  # of the logit, not of its rounding


@pytest.mark.parametrize("kernel", KERNELS)
def test_smoothed_coefficients_are_those_of_kernel_ridge_regression(kernel):
    """By its equation, from the kernel matrix: α = (K + λI)⁻¹ f at the landmarks; scikit-learn's agrees."""
    model, task = kernel_bag(kernel)
    batch, layer = batch_of(task.tokenizer, REFERENCES), model.kernel
    with torch.no_grad():
        c = layer.gram(model.encode(batch["input_ids"], batch["attention_mask"]))
        matrix = layer.gram(layer.features)
        at_landmarks = matrix @ layer.factor.T @ layer.projection.T @ model.head.weight.T
        top = task.logits(model, batch).argmax(dim=1)
    scale = float(layer.factor.pinverse().square().sum() / 8)  # mean k(x, x) of what was kept
    ridge = KernelRidge(alpha=0.1 * scale, kernel="precomputed").fit(matrix.numpy(), at_landmarks.numpy())
    expected = c * torch.from_numpy(ridge.dual_coef_).T[top]
    exact, smooth = ALL(model, batch, task), LandmarkRelevance(k=8, smoothing=0.1)(model, batch, task)
    for i, (row, before) in enumerate(zip(smooth, exact, strict=True)):
        assert told(row) == pytest.approx({100 + j: r for j, r in enumerate(expected[i].tolist()) if r}, abs=1e-6)
        assert set(row.absorbed) == {"bias", "smoothing"}
        assert sum(told(row).values()) + sum(row.absorbed.values()) == pytest.approx(row.target, abs=1e-9)
        assert abs(row.error) < 1e-9
        assert row.magnitude < before.magnitude


def test_evidence_against_keeps_its_sign_and_both_sides_are_sorted():
    model, task = kernel_bag()
    batch = batch_of(task.tokenizer, REFERENCES)
    rows, few = ALL(model, batch, task), LandmarkRelevance(k=2)(model, batch, task)
    assert any(row.unlike for row in rows)
    for row, short in zip(rows, few, strict=True):
        likes, unlikes = ([each.score for each in side] for side in (row.like, row.unlike))
        assert likes == sorted(likes, reverse=True)
        assert unlikes == sorted(unlikes)
        assert all(score > 0 for score in likes)
        assert all(score < 0 for score in unlikes)
        assert len(likes) == row.positive
        assert row.magnitude == pytest.approx(sum(likes) - sum(unlikes))
        assert (short.like, short.unlike) == (row.like[:2], row.unlike[:2])


def test_a_contrast_is_the_difference_of_its_sides():
    model, task = kernel_bag(head=nn.Linear(8, 3))
    batch = batch_of(task.tokenizer)
    for row, bad, good in zip(
        *(ALL(model, batch, task, which=which) for which in ("bad-good", "bad", "good")), strict=True
    ):
        difference = {i: told(bad)[i] - told(good)[i] for i in told(bad)}
        assert told(row) == pytest.approx(difference, abs=1e-10)
        assert (row.target_name, row.absorbed) == (
            "bad-good",
            {"bias": pytest.approx(bad.absorbed["bias"] - good.absorbed["bias"])},
        )


def test_a_margin_is_the_contrast_with_the_runner_up():
    model, task = kernel_bag()
    batch = batch_of(task.tokenizer)
    order = task.logits(model, batch).argsort(dim=1, descending=True)
    for i, row in enumerate(LandmarkRelevance(k=8)(model, batch, task, output="margin")):
        first, second = (task.label_names(3)[j] for j in order[i, :2].tolist())
        contrast = ALL(model, batch, task, which=f"{first}-{second}")[i]
        assert told(row) == pytest.approx(told(contrast), abs=1e-12)
        assert row.target == pytest.approx(contrast.target)
        assert abs(row.error) < 1e-12


def test_the_row_says_what_the_query_and_the_landmarks_are():
    model, task = kernel_bag()
    model.kernel.gram_error = 0.25
    batch = batch_of(task.tokenizer, labels=[2, 0]) | {"example_id": torch.tensor([7, 8])}
    row, other = LandmarkRelevance(k=3)(model, batch, task, which="gold")
    assert (row.example_id, other.example_id) == (7, 8)
    assert (row.gold, row.target_name, other.target_name) == ("good", "good", "bad")
    assert row.text.startswith("he is un")
    assert row.loss == pytest.approx(task.losses(model, batch)[0].item())
    assert (row.kernel, row.landmarks, row.approximation_error) == ("rbf", 8, 0.25)
    for each in row.like:
        assert (each.text, each.gold) == (LANDMARKS[each.example_id - 100], LABELS[each.example_id - 100])
    assert LandmarksRow.from_dict(row.to_dict()) == row


def test_what_nothing_speaks_for_is_said():
    model, task = kernel_bag("rbf")
    with torch.no_grad():
        model.head.weight.fill_(0)
        model.head.bias.copy_(torch.tensor([0.0, 0.0, 1.0]))
    row = LandmarkRelevance()(model, batch_of(task.tokenizer, ["good"]), task)[0]
    assert (row.like, row.unlike, row.positive, row.target_name) == ((), (), 0, "good")
    assert NOTHING_SPEAKS in row.notes
    assert row.absorbed == {"bias": 1.0}


def test_landmarks_without_ids_are_named_by_their_place():
    model, task = kernel_bag(known=False)
    row = ALL(model, batch_of(task.tokenizer), task)[0]
    assert sorted(told(row)) == list(range(8))
    assert "named by their place" in row.reasons["like"]


def test_a_batch_is_its_examples_one_by_one_and_the_module_is_as_it_was():
    model, task = kernel_bag()
    method = LandmarkRelevance(k=8, tokens=True)
    model.train()
    before = state_of(model)
    together = method(model, batch_of(task.tokenizer), task)
    assert_same(before, state_of(model), objects=True)
    for row, text in zip(together, TEXTS, strict=True):
        alone = method(model, batch_of(task.tokenizer, [text]), task)[0]
        assert told(row) == pytest.approx(told(alone), abs=1e-10)
        assert row.scores == pytest.approx(alone.scores, abs=1e-10)


@pytest.mark.parametrize("kernel", KERNELS)
def test_tokens_and_what_the_way_absorbs_sum_to_the_logit(kernel):
    model, task = kernel_bag(kernel, head=mlp(bias=True))
    batch = batch_of(task.tokenizer, REFERENCES)
    rows = LandmarkRelevance(tokens=True)(model, batch, task)
    way = LayerwiseRelevance()(model, batch, task)
    for row, of in zip(rows, way, strict=True):
        assert (row.tokens, row.scores) == (of.tokens, of.scores)
        assert sum(row.scores) + sum(of.absorbed.values()) == pytest.approx(row.target, rel=1e-9)
        # a constant of the kernel's own: its offset, and the 1 of a radial one
        assert set(of.absorbed) == {"bias"} | ({"constants"} if kernel in ("rbf", "polynomial") else set())
        assert any(note.startswith("on the way to the tokens: Σ tokens") for note in row.notes)


def test_an_example_at_its_landmark_has_the_relevance_of_one_next_to_it():
    """In single precision its squared distance is rounded to either side of 0."""
    found = {}
    for dtype in (torch.float32, torch.float64):
        model, task = kernel_bag("rbf", dtype=dtype)
        found[dtype] = LandmarkRelevance(tokens=True)(model, batch_of(task.tokenizer, LANDMARKS), task)
    for single, double in zip(*found.values(), strict=True):
        assert single.scores == pytest.approx(double.scores, abs=1e-3 * max(map(abs, double.scores)))


def test_an_encoder_without_rules_costs_the_tokens_and_not_the_landmarks():
    model, task = kernel_bag()
    encode = model.encode
    model.encode = lambda ids, mask: encode(ids, mask).exp()
    row = LandmarkRelevance(tokens=True)(model, batch_of(task.tokenizer), task)[0]
    assert row.tokens is row.scores is None
    assert "cannot pass `exp`" in row.reasons["tokens"]
    assert row.like
    assert abs(row.error) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
def test_why_a_query_is_like_a_landmark_sums_to_the_kernel_between_them(kernel):
    model, task = kernel_bag(kernel)
    batch = batch_of(task.tokenizer, REFERENCES, labels=[2, 0, 1, 2, 0])
    found = LandmarkRelevance().resemblance(model, batch, task, 103)
    with torch.no_grad():
        values = model.kernel.gram(model.encode(batch["input_ids"], batch["attention_mask"]))[:, 3]
    predicted = task.names(task.logits(model, batch))
    for i, row in enumerate(found):
        assert row.target == pytest.approx(float(values[i]), abs=1e-12)
        assert sum(row.scores) + sum(row.absorbed.values()) == pytest.approx(row.target, abs=1e-10)
        assert (row.target_name, row.prediction) == ("like 'he is great'", predicted[i])
    with pytest.raises(ValueError, match="`landmark=3` does not exist"):
        LandmarkRelevance().resemblance(model, batch, task, 3)


class OnSequences(nn.Module):
    """A kernel layer at every token of a decoder, before its score."""

    def __init__(self, model, width):
        super().__init__()
        self.kernel = NystroemLayer(width, 6, "rbf")
        self.kernel.set_landmarks(torch.randn(6, width, generator=torch.Generator().manual_seed(0)))
        self.head = lively(nn.Linear(6, 3, bias=False))

    def forward(self, hidden):
        return self.head(self.kernel(hidden))


def test_of_a_head_at_every_place_the_places_are_summed():
    model, tokenizer = classifier("gpt2"), tokenizer_for("gpt2")
    model.score = OnSequences(model, 16)
    model.double()
    task, batch = find_task(model, tokenizer=tokenizer), batch_of(tokenizer)
    rows = LandmarkRelevance(k=6, tokens=True)(model, batch, task)
    logits = task.logits(model, batch)
    for i, row in enumerate(rows):
        assert sum(told(row).values()) == pytest.approx(logits[i].max().item(), rel=1e-9)
        assert len(told(row)) == 6
        assert all(each.similarity is None for each in (*row.like, *row.unlike))  # one at each place
        assert row.scores is not None


def test_a_kernel_of_raw_inputs_has_landmarks_and_no_way_to_tokens():
    table = torch.randn(64, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = NystroemLayer(5, 5, "precomputed").double()
            self.kernel.set_gram(table[:5] @ table[:5].T, [Landmark(i) for i in range(5)])
            self.embedding = nn.Embedding(64, 1)
            self.head = lively(nn.Linear(5, 3).double())

        def forward(self, ids, mask):
            self.embedding(ids)
            return self.head(self.kernel(table[ids[:, 1]] @ table[:5].T))

    _, task = kernel_bag()
    row = LandmarkRelevance(tokens=True)(Rows(), batch_of(task.tokenizer), task)[0]
    assert abs(row.error) < 1e-9
    assert len(row.like) + len(row.unlike) == 5
    assert row.tokens is None
    assert row.reasons["tokens"]


def test_what_cannot_be_served_is_said():
    model, task = kernel_bag()
    batch = batch_of(task.tokenizer)
    with pytest.raises(ValueError, match=r"Linear has no kernel layer.* `KernelMixin`"):
        LandmarkRelevance()(nn.Linear(2, 2), batch, task)
    with pytest.raises(ValueError, match="`output='prob'` is no sum of scores"):
        LandmarkRelevance()(model, batch, task, output="prob")
    with pytest.raises(ValueError, match="`k=0` must be a whole number"):
        LandmarkRelevance(k=0)
    with pytest.raises(ValueError, match="`rule='lrp'` does not exist"):
        LandmarkRelevance(rule="lrp")
    with pytest.raises(ValueError, match="`smoothing=-1` must be 0 or more"):
        LandmarkRelevance(smoothing=-1)
    with pytest.raises(ValueError, match="`epsilon=-1"):
        LandmarkRelevance(epsilon=-1)
    empty = KernelBag().double()
    with pytest.raises(RuntimeError, match="has no landmarks yet"):
        LandmarkRelevance()(empty, batch, task)
    two = nn.ModuleDict({"a": model, "b": empty})
    with pytest.raises(ValueError, match=r"several kernel layers \(a.kernel, b.kernel\): choose `layer`"):
        LandmarkRelevance().check(two)
    assert LandmarkRelevance(layer="b.kernel").check(two) == "b.kernel"
    with pytest.raises(ValueError, match=r"`layer='c.kernel'` does not exist"):
        LandmarkRelevance(layer="c.kernel").check(two)
