"""EK-FAC against the exact matrix, on digits, and beside kronfluence."""

import pytest
import torch
from digits import WEIGHT_DECAY, DigitsTask, digits, split, train, trained
from sklearn.datasets import load_wine
from torch import nn

from lightning_interpret.functional.ranks import area_under_curve, recall_at
from lightning_interpret.methods.influence import EkfacInfluence, GradientSimilarity

DAMPING = 1e-3


class SquaresTask(DigitsTask):
    """(score − label)² / 2 of one score."""

    def losses(self, module, batch):
        return (self.logits(module, batch)[:, 0] - batch["labels"]).square() / 2

    def loss_roots(self, logits, samples=None, generator=None):
        return torch.ones_like(logits)[None]


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


def exact_scores(module, task, data, queries, damping):
    """∇mᵀ (GGN + damping)⁻¹ ∇ℓ / n of one linear layer, of which each gradient is an outer product."""

    def gradients(batch, values):
        logits = task.logits(module, batch).detach().requires_grad_()
        back = torch.autograd.grad(values(logits).sum(), logits)[0]
        return torch.einsum("bo,bi->boi", back, nn.functional.pad(batch["pixels"], (0, 1), value=1.0)).flatten(1)

    def losses(batch):
        head = nn.Identity()
        return lambda logits: task.losses(head, {**batch, "pixels": logits})

    roots = task.loss_roots(task.logits(module, data).detach())
    spread = torch.cat([gradients(data, lambda logits, root=root: logits * root) for root in roots])
    count = len(data["pixels"])
    matrix = spread.T @ spread / count + damping * torch.eye(spread.shape[1], dtype=spread.dtype)
    return gradients(queries, losses(queries)) @ torch.linalg.solve(matrix, gradients(data, losses(data)).T) / count


def test_one_linear_layer_of_one_score_is_exact():
    """A5: one place, one root of constant size, so that nothing is lost by the product."""
    data, queries = ({**each, "labels": each["labels"].double()} for each in digits(torch.float64))
    data = split(data, 300)[0]
    module, task = nn.Sequential(nn.Linear(64, 1)).double(), SquaresTask()
    expected = exact_scores(module, task, data, queries, 0.1)
    for corrected in (True, False):
        method = EkfacInfluence(damping=0.1, corrected=corrected)
        found = method.fit(module, split(data, 90), task).matrix(queries)[1]
        assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_softmax_regression_is_nearly_exact():
    """A4, on scikit-learn's wines; the less the damping, the further apart (0.92 at a tenth of it)."""
    pixels, labels = (torch.tensor(each) for each in load_wine(return_X_y=True))
    pixels = (pixels - pixels.mean(dim=0)) / pixels.std(dim=0)
    ids = torch.arange(len(labels))
    data, queries = (
        {"pixels": pixels[rows], "labels": labels[rows], "example_id": ids[rows]}
        for rows in (ids % 5 > 0, ids % 5 == 0)
    )
    task, module, decay = DigitsTask(), nn.Sequential(nn.Linear(13, 3)).double(), 0.1
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5, weight_decay=decay)
    for _ in range(100):
        optimizer.zero_grad()
        task.losses(module, data).mean().backward()
        optimizer.step()
    expected = exact_scores(module, task, data, queries, decay)
    fitted = EkfacInfluence(label_samples="all").fit(module, split(data, 40), task, weight_decay=decay)
    found = fitted.matrix(queries)[1]
    assert correlation(found, expected) > 0.98
    assert 0.8 < float((found * expected).sum() / expected.square().sum()) < 1.25  # on one scale
    stated = fitted.approximation
    assert (stated.curvature, stated.samples, stated.seed, stated.damping) == ("ggn", None, None, 0.0)
    assert (stated.weight_decay, stated.examples, stated.coverage) == (decay, len(data["labels"]), 1.0)


def exactly(**options):
    return EkfacInfluence(damping=DAMPING, label_samples="all", **options)


def test_sampled_labels_come_to_the_exact_curvature():
    data, queries = digits()
    rows, task = split(data, 100)[:2], DigitsTask()
    exact = exactly().fit(trained(), rows, task).matrix(queries)[1]
    errors = []
    for samples in (1, 16, 256):
        fitted = EkfacInfluence(damping=DAMPING, label_samples=samples, seed=3).fit(trained(), rows, task)
        assert (fitted.approximation.curvature, fitted.approximation.samples) == ("fisher", samples)
        assert fitted.approximation.seed == 3
        errors.append(float((fitted.matrix(queries)[1] - exact).norm() / exact.norm()))
    assert errors[2] < errors[1] / 2 < errors[0] / 4
    assert errors[2] < 0.1


def test_labels_are_drawn_where_classes_are_many_and_the_same_by_seed():
    data, queries = digits()
    rows, task = split(data, 100)[:2], DigitsTask()
    first, again, other = (EkfacInfluence(seed=seed).fit(trained(), rows, task) for seed in (0, 0, 1))
    assert first.approximation.samples == 4
    assert torch.equal(first.matrix(queries)[1], again.matrix(queries)[1])
    assert not torch.equal(first.matrix(queries)[1], other.matrix(queries)[1])


def test_flipped_labels_have_the_largest_self_influence():
    """A9, one seed."""
    data = dict(digits()[0])
    generator = torch.Generator().manual_seed(0)
    flipped = torch.zeros(1000, dtype=torch.bool)
    flipped[torch.randperm(1000, generator=generator)[:100]] = True
    moved = (data["labels"] + torch.randint(1, 10, (1000,), generator=generator)) % 10
    data["labels"] = torch.where(flipped, moved, data["labels"])
    module = train(data)
    fitted = EkfacInfluence().fit(module, split(data, 250), DigitsTask(), weight_decay=WEIGHT_DECAY)
    own = fitted.self_influence()[1]
    assert area_under_curve(own, flipped) > 0.97
    assert recall_at(own, flipped, 0.2) > 0.95


def test_factors_of_fewer_examples_are_said_and_near():
    data, queries = digits()
    rows, task = split(data, 100), DigitsTask()
    whole = EkfacInfluence(label_samples="all").fit(trained(), rows, task, weight_decay=WEIGHT_DECAY)
    part = EkfacInfluence(label_samples="all", factor_examples=500)
    part = part.fit(trained(), rows, task, weight_decay=WEIGHT_DECAY)
    assert (whole.total, part.total, part.approximation.examples) == (1000, 1000, 500)
    assert "curvature from 500 of 1000 training examples, spread evenly" in part.approximation.notes
    assert correlation(whole.matrix(queries)[1], part.matrix(queries)[1]) > 0.9


def test_what_is_not_finite_is_left_out_and_counted():
    data, queries = digits()
    rows, task = split(data, 100)[:2], DigitsTask()
    broken = [{**rows[0], "pixels": rows[0]["pixels"].clone()}, rows[1]]
    broken[0]["pixels"][7] = float("nan")
    without = [{k: v[torch.arange(100) != 7] for k, v in rows[0].items()}, rows[1]]
    fitted, expected = (exactly().fit(trained(), each, task) for each in (broken, without))
    assert fitted.approximation.examples == 199
    assert "1 training examples left out of the curvature, as theirs is not finite" in fitted.approximation.notes
    row = fitted.scores({name: values[:1] for name, values in queries.items()}, k=3)[0]
    assert row.skipped == 1
    first = [each.example_id for each in row.helpful]
    assert first == [
        each.example_id for each in expected.scores({k: v[:1] for k, v in queries.items()}, k=3)[0].helpful
    ]


def test_a_large_damping_is_the_dot_product():
    """A6: where the curvature is nothing beside the damping."""
    data, queries = digits(torch.float64)
    rows, task, module = split(data, 100)[:2], DigitsTask(), trained().double()
    found = EkfacInfluence(damping=1e9).fit(module, rows, task).matrix(queries)[1]
    dot = GradientSimilarity("dot").fit(module, rows, task).matrix(queries)[1]
    assert torch.allclose(found * 1e9 * 200, dot, rtol=1e-6, atol=1e-9)
    module.float()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"damping": -1.0}, "damping"),
        ({"damping": float("nan")}, "damping"),
        ({"label_samples": 0}, "label_samples"),
        ({"label_samples": "some"}, "label_samples"),
        ({"factor_examples": 0}, "factor_examples"),
        ({"query_rank": True}, "query_rank"),
    ],
)
def test_options_that_are_none_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        EkfacInfluence(**options)


class Sequences(nn.Module):
    """A linear map at each of some places, a tanh, a sum over them, a score."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(8, 6), nn.Linear(6, 1)

    def forward(self, pixels):
        return self.head(torch.tanh(self.first(pixels.unflatten(1, (8, 8)))).sum(dim=1))


@pytest.mark.slow
def test_scores_are_those_of_kronfluence(tmp_path):
    """Of one score with squared loss every draw of its Fisher is ±1, so that its sampling changes nothing."""
    kronfluence = pytest.importorskip("kronfluence", reason="kronfluence is not installed")
    torch.manual_seed(0)
    module, task, damping = Sequences().double(), SquaresTask(), 1e-3
    data, queries = ({**each, "labels": each["labels"].double()} for each in digits(torch.float64))
    data = split(data, 200)[0]
    found = EkfacInfluence(damping=damping).fit(module, split(data, 70), task).matrix(queries)[1] * 200

    class Squares(kronfluence.Task):
        def compute_train_loss(self, batch, model, sample=False):
            score, label = model(batch[0])[:, 0], batch[1]
            if sample:
                label = score.detach() + torch.randint(0, 2, score.shape) * 2 - 1
            return (score - label).square().sum() / 2

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    def rows(batch):
        return torch.utils.data.TensorDataset(batch["pixels"], batch["labels"])

    double = {"per_sample_gradient_dtype": torch.float64}
    factors = {f"{name}_dtype": torch.float64 for name in ("activation_covariance", "gradient_covariance", "lambda")}
    scores = {f"{name}_dtype": torch.float64 for name in ("precondition", "score")}
    squares = Squares()
    analyzer = kronfluence.Analyzer(
        "test",
        kronfluence.prepare_model(module, squares),
        squares,
        cpu=True,
        disable_tqdm=True,
        output_dir=str(tmp_path),
    )
    analyzer.fit_all_factors("f", rows(data), 50, factor_args=kronfluence.FactorArguments(**double, **factors))
    analyzer.compute_pairwise_scores(
        "s",
        "f",
        rows(queries),
        rows(data),
        100,
        100,
        score_args=kronfluence.ScoreArguments(damping_factor=damping, **double, **scores),
    )
    expected = analyzer.load_pairwise_scores("s")["all_modules"]
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-8 * float(expected.abs().max()))
