import pytest
import torch
from digits import DigitsTask, digits, network, split, train, trained
from linear_models import Logistic, breast_cancer
from purity import assert_same, state_of

from lightning_interpret import ConjugateGradientInfluence, ExactInfluence
from lightning_interpret.methods.influence import influence_named, roots


def small(count=60):
    batch = {name: values[:count] for name, values in digits(torch.float64)[0].items()}
    return train(batch, epochs=5, model=network(4).double()), batch


def test_a4_conjugate_gradients_agree_with_the_factorised_curvature():
    module, examples, queries, _ = breast_cancer()
    options = {"weight_decay": 4.56 / 456}
    methods = ExactInfluence(layers="all"), ConjugateGradientInfluence(tolerance=1e-8)
    exact, found = (method.fit(module, split(examples, 100), Logistic(), **options) for method in methods)
    ids, scores = found.matrix(queries)
    assert torch.allclose(scores, exact.matrix(queries)[1], rtol=1e-4, atol=1e-10)
    assert ids.tolist() == list(range(456))
    stated = found.approximation
    assert (stated.converged, stated.examples, stated.damping) == (True, 456, 0.0)
    assert 0 < stated.residual <= 1e-8
    _, own = found.self_influence(split(examples, 50)[:1])
    assert torch.allclose(own, exact.self_influence()[1][:50], rtol=1e-4)


@pytest.mark.parametrize("kept", [roots.KEPT_BYTES, 0])
def test_a_network_of_ten_classes_agrees_too_kept_or_read_again_and_again(kept, monkeypatch):
    monkeypatch.setattr(roots, "KEPT_BYTES", kept)
    module, batch = small()
    options = {"layers": "all", "damping": 0.02}
    exact = ExactInfluence(**options).fit(module, split(batch, 25), DigitsTask()).matrix(batch)[1]
    fitted = ConjugateGradientInfluence(**options).fit(module, split(batch, 25), DigitsTask())
    assert float((fitted.matrix(batch)[1] - exact).abs().max() / exact.abs().max()) < 1e-4
    assert fitted.approximation.converged


def test_without_a_weight_decay_the_damping_is_that_of_the_exact_method():
    module, batch = small()
    exact, found = (
        method.fit(module, split(batch, 25), DigitsTask()).approximation.damping
        for method in (ExactInfluence(layers="all"), ConjugateGradientInfluence())
    )
    assert found == pytest.approx(exact, rel=1e-9)
    assert found > 0


def test_too_few_steps_are_said_and_a_call_says_its_own_residual():
    train_batch, queries = digits()
    some = {name: values[:4] for name, values in queries.items()}
    fitted = ConjugateGradientInfluence(damping=1e-3, max_steps=3).fit(trained(), split(train_batch, 500), DigitsTask())
    row = fitted.scores(some, k=2)[0]
    assert row.approximation.converged is False
    assert row.approximation.residual > 1e-2
    fitted.max_steps = 400
    assert fitted.scores(some, k=2)[0].approximation.converged is True


def test_the_curvature_of_some_examples_is_that_of_those_alone_spread_over_the_ids():
    module, batch = small(50)
    method = ConjugateGradientInfluence(damping=0.1, curvature_examples=5, tolerance=1e-8)
    fitted = method.fit(module, split(batch, 20), DigitsTask())
    assert fitted.roots.source.ids == [0, 12, 24, 37, 49]
    picked = {name: values[[0, 12, 24, 37, 49]] for name, values in batch.items()}
    exact = ExactInfluence(layers="all", damping=0.1).fit(module, [picked], DigitsTask())
    expected = exact.matrix(batch, examples=[batch])[1] * 5 / 50  # n is that of the whole training set
    assert torch.allclose(fitted.matrix(batch)[1], expected, rtol=1e-5, atol=1e-9)
    assert fitted.approximation.examples == 5


def test_broken_and_repeated_examples_count_as_in_the_exact_method_and_the_module_is_untouched():
    module, batch = small(30)
    broken = {name: torch.cat([values, values[:3]]) for name, values in batch.items()}
    broken["pixels"] = broken["pixels"].index_fill(0, torch.tensor([4]), torch.nan)
    options = {"layers": "all", "damping": 0.1}
    methods = ExactInfluence(**options), ConjugateGradientInfluence(**options, tolerance=1e-9)
    before = state_of(module)
    a, b = (method.fit(module, split(broken, 8), DigitsTask()).scores(batch, k=3)[0] for method in methods)
    assert_same(before, state_of(module), objects=True)
    assert [each.example_id for each in a.helpful] == [each.example_id for each in b.helpful]
    assert [each.score for each in a.helpful] == pytest.approx([each.score for each in b.helpful], rel=1e-6)
    assert (b.examples, b.skipped, b.approximation.examples) == (29, 1, 29)
    assert "1 training examples were left out" in b.approximation.notes[0]
    with pytest.raises(ValueError, match="none of 1 training examples has finite gradients"):
        methods[1].fit(module, [{name: values[4:5] for name, values in broken.items()}], DigitsTask())


def test_options_that_cannot_be_are_refused():
    for options in ({"damping": -1.0}, {"tolerance": 0.0}, {"max_steps": 0}, {"curvature_examples": 0}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}="):
            ConjugateGradientInfluence(**options)
    assert influence_named("conjugate_gradient", max_steps=5).max_steps == 5
