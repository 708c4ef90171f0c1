import pytest
import torch
from captum.influence._core.influence_function import NaiveInfluenceFunction
from digits import WEIGHT_DECAY, DigitsTask, digits, network, split, train, trained
from linear_models import Logistic, Regression, batch_from, breast_cancer, diabetes, linear
from purity import assert_same, state_of
from tiny import MeanPooled, MeanPooledTask, batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret import ExactInfluence, SequenceClassification
from lightning_interpret.functional.ranks import area_under_curve, recall_at, spearman
from lightning_interpret.methods.influence import influence_named, roots
from lightning_interpret.methods.neighbors import NearestNeighbors

TEXTS = ["the player was great .", "he is unaffable and a very good film", "dull", "not a bad movie .", "great play"]


def texts(padding=0):
    parts = batch_of(tokenizer_for("bert"), TEXTS)
    parts = {name: nn.functional.pad(parts[name], (0, padding)) for name in ("input_ids", "attention_mask")}
    return {**parts, "labels": torch.tensor([2, 0, 1, 2, 0]), "example_id": torch.arange(5)}


def small(count=60):
    """A few digits, and a network on them that is in the middle of its training."""
    batch = {name: values[:count] for name, values in digits(torch.float64)[0].items()}
    return train(batch, epochs=5, model=network(4).double()), batch


def test_a1_removal_of_an_example_from_a_ridge_regression_is_exact_with_leverage_and_short_by_h_without():
    x, y, (qx, _), weights, without, whole = diabetes()
    module, examples = linear(weights[None]), split(batch_from(x, y), 100)
    h = (x @ torch.linalg.inv(whole) * x).sum(dim=1)
    change = qx @ (without - weights).T  # of what is predicted for each query
    options = {"weight_decay": 1.0 / len(x)}
    measured = {"measure": lambda module, batch: module(batch["pixels"])[:, 0]}
    queries = batch_from(qx, torch.zeros(len(qx)))
    corrected = ExactInfluence(leverage_correction=True).fit(module, examples, Regression(), **options)
    _, exact = corrected.matrix(queries, **measured)
    assert float((exact - change).abs().max() / change.abs().max()) < 1e-10
    fitted = ExactInfluence().fit(module, examples, Regression(), **options)
    _, plain = fitted.matrix(queries, **measured)
    assert torch.allclose((plain - change) / change, -h.expand_as(change), atol=1e-6)
    assert float(h.max()) > 0.1
    _, own = fitted.self_influence()
    _, corrected_own = corrected.self_influence()
    assert torch.allclose(corrected_own, own / (1 - h), rtol=1e-10)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-6), (torch.float32, 1e-3)])
def test_a2_the_influence_matrix_of_a_linear_regression_is_its_closed_form(dtype, error):
    x, y, (qx, qy), _, _, _ = diabetes()
    x, y, qx, qy = (each.to(dtype) for each in (x, y, qx, qy))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = nn.Linear(x.shape[1], 1).to(dtype)
    fitted = ExactInfluence(damping=0.1).fit(module, split(batch_from(x, y), 64), Regression())
    ids, scores = fitted.matrix(batch_from(qx, qy))
    ones, qones = (torch.cat([each, torch.ones(len(each), 1)], dim=1).double() for each in (x, qx))
    left = qones * (module(qx)[:, 0] - qy).detach().double()[:, None]
    right = ones * (module(x)[:, 0] - y).detach().double()[:, None]
    curvature = ones.T @ ones / len(x) + 0.1 * torch.eye(11, dtype=torch.float64)
    expected = left @ torch.linalg.solve(curvature, right.T) / len(x)
    assert ids.tolist() == list(range(342))
    assert float((scores - expected).abs().max() / expected.abs().max()) < error
    assert (fitted.approximation.damping, fitted.approximation.weight_decay) == (0.1, 0.0)


class Wrapped(nn.Module):
    """A layer with a name, as captum wants it, and one number an example."""

    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return self.linear(x)[:, 0]


@pytest.mark.filterwarnings("ignore:Since `loss_fn` has no")
def test_a2_captum_says_the_same_without_damping(tmp_path):
    x, y, (qx, qy), _, _, _ = diabetes()
    module = linear(torch.linspace(-20, 20, 10, dtype=torch.float64)[None])
    path = tmp_path / "weights.pt"
    torch.save(Wrapped(module).state_dict(), path)
    theirs = NaiveInfluenceFunction(
        Wrapped(module),
        torch.utils.data.TensorDataset(x, y),
        str(path),
        loss_fn=lambda predicted, gold: 0.5 * (predicted - gold).square(),
        batch_size=64,
        projection_dim=10,
        hessian_reg=1e-9,
        hessian_inverse_tol=1e-12,
    ).influence((qx, qy))
    _, ours = (
        ExactInfluence(damping=0.0).fit(module, split(batch_from(x, y), 64), Regression()).matrix(batch_from(qx, qy))
    )
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-6


def test_a3_influence_on_a_logistic_regression_is_what_456_refits_without_an_example_say():
    module, examples, queries, truth = breast_cancer()
    batches, options = split(examples, 100), {"weight_decay": 4.56 / 456}
    fitted = ExactInfluence().fit(module, batches, Logistic(), **options)
    _, scores = fitted.matrix(queries)
    summed = torch.stack([scores.sum(dim=0), truth.sum(dim=0)])
    assert float(torch.corrcoef(summed)[0, 1]) > 0.95
    assert float(spearman(summed[0, :, None], summed[1, :, None])) > 0.98
    assert float(spearman(scores.T, truth.T).mean()) > 0.97
    assert fitted.approximation.damping == 0.0  # the objective's own regulariser is there already
    _, better = ExactInfluence(leverage_correction=True).fit(module, batches, Logistic(), **options).matrix(queries)
    assert float((better - truth).abs().mean()) < 0.5 * float((scores - truth).abs().mean())


def test_a9_wrong_labels_have_the_highest_influence_on_themselves():
    batch = dict(digits()[0])
    flipped = torch.randperm(1000, generator=torch.Generator().manual_seed(1))[:100]
    wrong = torch.zeros(1000, dtype=torch.bool).index_fill(0, flipped, True)
    other = torch.randint(1, 10, (1000,), generator=torch.Generator().manual_seed(2))
    batch["labels"] = torch.where(wrong, (batch["labels"] + other) % 10, batch["labels"])
    module = train(batch)
    losses = DigitsTask().losses(module, batch).detach()
    for layers in ("last", "all"):
        method = ExactInfluence(layers=layers, damping=1e-3)
        fitted = method.fit(module, split(batch, 250), DigitsTask(), weight_decay=WEIGHT_DECAY)
        _, own = fitted.self_influence()
        assert area_under_curve(own, wrong) > max(0.97, area_under_curve(losses, wrong) - 0.02)
        assert recall_at(own, wrong, 0.2) > 0.95


def test_the_hessian_of_a_layer_that_the_logits_are_linear_in_is_the_gauss_newton_matrix():
    module, batch = small()
    found = [
        ExactInfluence(curvature=curvature, damping=0.01).fit(module, split(batch, 25), DigitsTask()).matrix(batch)[1]
        for curvature in ("ggn", "hessian")
    ]
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_the_true_hessian_of_all_layers_is_autograds_and_says_its_negative_eigenvalues():
    module, batch = small(20)
    named = dict(module.named_parameters())
    sizes = [each.numel() for each in named.values()]

    def mean_loss(vector):
        parts = zip(named, vector.split(sizes), strict=True)
        made = {name: part.reshape(named[name].shape) for name, part in parts}
        logits = torch.func.functional_call(module, made, (batch["pixels"],))
        return nn.functional.cross_entropy(logits, batch["labels"])

    vector = torch.cat([each.detach().flatten() for each in named.values()])
    curvature = torch.autograd.functional.hessian(mean_loss, vector) + 0.05 * torch.eye(len(vector)).double()
    gradients = torch.stack(
        [
            torch.cat([each.flatten() for each in torch.autograd.grad(loss, named.values(), retain_graph=True)])
            for loss in DigitsTask().losses(module, batch)
        ]
    )
    expected = gradients @ torch.linalg.solve(curvature, gradients.T) / 20
    fitted = ExactInfluence(layers="all", curvature="hessian", damping=0.05).fit(module, split(batch, 8), DigitsTask())
    assert torch.allclose(fitted.matrix(batch)[1], expected, rtol=1e-6, atol=1e-9)
    assert torch.allclose(fitted.self_influence()[1], expected.diagonal(), rtol=1e-6, atol=1e-9)
    assert fitted.approximation.curvature == "hessian"
    negative = int((torch.linalg.eigvalsh(curvature) < 0).sum())
    assert f"{negative} of {len(vector)} eigenvalues" in fitted.approximation.notes[0]


def test_the_hessian_of_attention_is_there_and_the_module_is_as_it_was():
    module, batch = classifier("bert"), texts()
    task = SequenceClassification(tokenizer_for("bert"))
    layers = ["bert.encoder.layer.1.attention.self.query", "classifier"]
    before = state_of(module)
    for method in (ExactInfluence(layers=layers, damping=0.1), ExactInfluence(leverage_correction=True)):
        method.fit(module, [batch], task).scores(batch, k=2)
    method = ExactInfluence(layers=layers, curvature="hessian", damping=0.1)
    fitted = method.fit(module, [batch], task)
    _, scores = fitted.matrix(batch)
    fitted.self_influence()
    assert_same(before, state_of(module), objects=True)
    assert float(scores.diagonal().min()) > 0
    assert fitted.approximation.layers == tuple(layers)


@pytest.mark.parametrize("leverage", [False, True])
def test_batches_and_padding_change_nothing_nor_does_a_second_reading(leverage, monkeypatch):
    module, task = MeanPooled("bert", torch.float64).eval(), MeanPooledTask(tokenizer_for("bert"))
    batch = texts()
    wide = texts(padding=12)
    method = ExactInfluence(damping=0.01, leverage_correction=leverage)
    found = []
    for examples in ([batch], [wide], split(batch, 1), split(wide, 2)):
        fitted = method.fit(module, examples, task)
        found.append((fitted.matrix(batch)[1], fitted.self_influence()[1]))
    monkeypatch.setattr(roots, "KEPT_BYTES", 0)
    monkeypatch.setattr("lightning_interpret.methods.influence.exact.KEPT_BYTES", 0)
    fitted = method.fit(module, split(batch, 2), task)
    found.append((fitted.matrix(batch)[1], fitted.self_influence()[1]))
    for scores, own in found[1:]:
        assert torch.allclose(scores, found[0][0], rtol=1e-6, atol=1e-10)
        assert torch.allclose(own, found[0][1], rtol=1e-6, atol=1e-10)
    assert torch.allclose(found[0][0].diagonal(), found[0][1])


class Reused(nn.Module):
    """A layer that is called first and last, and another in between."""

    def __init__(self):
        super().__init__()
        self.around, self.between = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.around(torch.tanh(self.between(torch.tanh(self.around(x)))))


def test_the_last_layer_is_the_one_whose_call_comes_last():
    batch = {"pixels": torch.randn(6, 4), "labels": torch.arange(6) % 4, "example_id": torch.arange(6)}
    fitted = ExactInfluence().fit(Reused().eval(), [batch], DigitsTask())
    assert fitted.approximation.layers == ("around",)
    beside = NearestNeighbors(k=2).fit(Reused().eval(), [batch], DigitsTask())
    assert beside.store.header.layer == "input of around"


class NoBackward(torch.autograd.Function):
    """The identity, through which no gradient may come back."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise AssertionError("a gradient of the encoder was asked for")


class Encoded(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head, self.calls = nn.Linear(64, 8), nn.Linear(8, 10), []

    def forward(self, pixels):
        self.calls.append(len(pixels))
        return self.head(NoBackward.apply(torch.tanh(self.encoder(pixels))))


def test_the_last_layer_costs_one_forward_of_the_training_data_and_no_backward_of_the_encoder():
    module, (examples, queries) = Encoded(), digits()
    fitted = ExactInfluence(damping=0.01).fit(module, split(examples, 250), DigitsTask())
    fit = len(module.calls)
    assert module.calls.count(250) == 4
    assert sum(module.calls) < 1020  # beside it, a trial on a few examples
    fitted.matrix({name: values[:5] for name, values in queries.items()})
    fitted.self_influence()
    assert module.calls[fit:] == [5]


def test_a10_examples_that_come_twice_count_once_and_k_may_be_larger_than_the_set():
    module, batch = small(30)
    again = {name: torch.cat([values[:10], values[3:7], values[10:]]) for name, values in batch.items()}
    once, twice = (
        ExactInfluence(damping=0.01).fit(module, split(each, 12), DigitsTask()).scores(batch, k=50)[0]
        for each in (batch, again)
    )
    assert [each.example_id for each in once.helpful] == [each.example_id for each in twice.helpful]
    assert len(once.helpful) + len(once.harmful) == 30
    assert (twice.examples, twice.approximation.examples) == (30, 30)
    for a, b in zip(once.helpful, twice.helpful, strict=True):
        assert a.score == pytest.approx(b.score, rel=1e-9)


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_an_example_without_finite_gradients_is_left_out_and_counted(curvature):
    module, batch = small(30)
    broken = {name: values.clone() for name, values in batch.items()}
    broken["pixels"][4] = torch.nan
    rest = {name: torch.cat([values[:4], values[5:]]) for name, values in batch.items()}
    method = ExactInfluence(curvature=curvature, layers="all", damping=0.1)
    with_it, without = (
        method.fit(module, split(each, 8), DigitsTask()).scores(rest, k=3)[2] for each in (broken, rest)
    )
    assert [each.example_id for each in with_it.harmful] == [each.example_id for each in without.harmful]
    assert with_it.harmful[0].score == pytest.approx(without.harmful[0].score, rel=1e-9)
    assert (with_it.examples, with_it.skipped, with_it.approximation.examples) == (29, 1, 29)
    assert "1 training examples were left out" in with_it.approximation.notes[-1]
    with pytest.raises(ValueError, match="not finite: 0 examples have finite gradients, 1 not"):
        method.fit(module, [{name: values[4:5] for name, values in broken.items()}], DigitsTask())


@pytest.mark.parametrize("curvature", ["ggn", "hessian"])
def test_a_model_in_half_precision_is_measured_in_single(curvature):
    module, batch = small()
    half = {**batch, "pixels": batch["pixels"].bfloat16()}
    exact = {**half, "pixels": half["pixels"].double()}
    module, method = module.bfloat16(), ExactInfluence(curvature=curvature, damping=0.1)
    found = method.fit(module, split(half, 25), DigitsTask()).matrix(half)[1]
    expected = method.fit(module.double(), split(exact, 25), DigitsTask()).matrix(exact)
    assert float((found - expected[1]).abs().max() / expected[1].abs().max()) < 1e-4


def test_without_a_weight_decay_the_damping_is_a_tenth_of_the_mean_eigenvalue():
    module, batch = small()
    fitted = ExactInfluence().fit(module, [batch], DigitsTask())
    hidden = torch.cat([module[:2](batch["pixels"]), torch.ones(60, 1)], dim=1).detach()
    p = module(batch["pixels"]).softmax(dim=1).detach()
    trace = ((p * (1 - p)).sum(dim=1) * hidden.square().sum(dim=1)).mean()
    assert fitted.approximation.damping == pytest.approx(0.1 * float(trace) / 50, rel=1e-9)
    assert fitted.approximation.notes == ()
    singular = ExactInfluence(damping=0.0).fit(module, [batch], DigitsTask())
    assert "eigenvalues of the damped curvature are zero" in singular.approximation.notes[0]
    assert singular.matrix(batch)[1].isfinite().all()


def test_what_cannot_be_is_refused_with_what_to_do_instead():
    task, batch = DigitsTask(), digits()[0]
    with pytest.raises(ValueError, match=r"covers 2,410 parameters, more than `max_parameters=2,000`.*'last'.*Ekfac"):
        ExactInfluence(layers="all", max_parameters=2000).fit(trained(), [batch], task)
    with pytest.raises(ValueError, match="no layer with trainable parameters"):
        ExactInfluence().fit(network().requires_grad_(False), [batch], task)
    with pytest.raises(ValueError, match="`curvature='fisher'` does not exist"):
        ExactInfluence(curvature="fisher")
    with pytest.raises(ValueError, match="`damping=-1` must be"):
        ExactInfluence(damping=-1)
    with pytest.raises(ValueError, match="use `curvature='ggn'`"):
        ExactInfluence(curvature="hessian", leverage_correction=True)
    assert influence_named("exact", layers="all") == ExactInfluence(layers="all")
