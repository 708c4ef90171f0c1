import pytest
import torch
from digits import WEIGHT_DECAY, DigitsTask, digits, split, trained
from purity import assert_same, state_of

from lightning_interpret.methods.examples import Loaded
from lightning_interpret.methods.influence import (
    ExactInfluence,
    FeatureSimilarity,
    GradientSimilarity,
    ProjectedGradients,
    Rerank,
    TracIn,
)

TASK = DigitsTask()


class Counted(Loaded):
    """Examples that count how many were asked for by id."""

    taken = 0

    def take(self, ids):
        self.taken += len(ids)
        yield from super().take(ids)


def data(size=250):
    return Counted(split(digits()[0], size), TASK)


def some(count):
    return {name: values[:count] for name, values in digits()[1].items()}


def test_each_query_is_answered_from_its_own_shortlist_with_the_second_methods_scores():
    queries, module, examples = some(6), trained(), data()
    before = state_of(module)
    first = GradientSimilarity().fit(module, examples, TASK).matrix(queries)[1]
    then = ProjectedGradients(256).fit(module, examples, TASK, weight_decay=WEIGHT_DECAY).matrix(queries)[1] * 1.0
    method = Rerank("gradient_similarity", ProjectedGradients(256), candidates=40)
    fitted = method.fit(module, examples, TASK, weight_decay=WEIGHT_DECAY)
    found = fitted.scores(queries, k=3, details=False)
    for row, near, scores in zip(found, first, then, strict=True):
        shortlist = torch.cat([near.topk(20).indices, (-near).topk(20).indices])
        assert [each.example_id for each in row.helpful] == shortlist[scores[shortlist].topk(3).indices].tolist()
        assert [each.example_id for each in row.harmful] == shortlist[(-scores[shortlist]).topk(3).indices].tolist()
        torch.testing.assert_close(row.helpful[0].score, float(scores[shortlist].max()), rtol=1e-4, atol=0)
        assert row.notes == ("scored 1000 examples; reranked 40",)
        assert (row.examples, row.skipped) == (1000, 0)
        assert row.approximation.method == "projected_gradients"
        assert row.approximation.notes[-1] == "reranked: the 40 foremost of gradient_similarity (cosine of gradients)"
    assert_same(before, state_of(module))


def test_the_second_method_sees_the_shortlists_alone():
    examples, queries = data(), some(3)
    fitted = Rerank(GradientSimilarity(), GradientSimilarity("dot"), candidates=10).fit(trained(), examples, TASK)
    fitted.scores(queries, details=False)
    assert 10 <= examples.taken <= 30
    aggregate, examples.taken = fitted.scores(iter(split(queries, 1)), aggregate=True, details=False)[0], 0
    assert aggregate.notes == ("scored 1000 examples; reranked 10",)
    assert aggregate.queries == 3
    ids, scores = fitted.matrix(queries)
    assert len(ids) == examples.taken
    assert ((scores != 0).sum(dim=1) == 10).all()
    dot = GradientSimilarity("dot").fit(trained(), examples, TASK)
    torch.testing.assert_close(fitted.self_influence()[1], dot.self_influence()[1])


def test_with_as_many_candidates_as_examples_nothing_is_lost():
    examples, queries = data(), some(4)
    alone = ExactInfluence(layers="last").fit(trained(), examples, TASK, weight_decay=WEIGHT_DECAY)
    method = Rerank("gradient_similarity", ExactInfluence(layers="last"), candidates=2000)
    both = method.fit(trained(), examples, TASK, weight_decay=WEIGHT_DECAY)
    for row, expected in zip(both.scores(queries, k=5), alone.scores(queries, k=5), strict=True):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in expected.helpful]
        scores = [[each.score for each in found] for found in (row.helpful, expected.helpful)]
        assert scores[0] == pytest.approx(scores[1], rel=1e-4)


def test_a_shortlist_of_a_tenth_keeps_what_the_curvature_finds_neighbours_most_of_it_and_a_cosine_less():
    examples, queries, given = data(), some(100), {"weight_decay": WEIGHT_DECAY}
    expensive = ExactInfluence(layers="last")
    alone = expensive.fit(trained(), examples, TASK, **given).scores(queries, k=5, details=False)

    def kept(first):
        fitted = Rerank(first, expensive, candidates=100).fit(trained(), examples, TASK, **given)
        found = fitted.scores(queries, k=5, details=False)
        pairs = [
            ({e.example_id for e in a.helpful}, {e.example_id for e in b.helpful})
            for a, b in zip(found, alone, strict=True)
        ]
        return sum(len(a & b) for a, b in pairs) / 500

    assert kept(None) > 0.95
    assert kept("gradient_similarity") < kept(FeatureSimilarity()) < kept(None)
    assert kept(FeatureSimilarity()) > 0.8


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "dot"])
def test_neighbours_first_then_curvature_on_each_querys_nearest(similarity):
    queries, module, examples, given = some(5), trained(), data(), {"weight_decay": WEIGHT_DECAY}
    first, expensive = FeatureSimilarity(similarity=similarity), ExactInfluence(layers="last")
    near = first.fit(module, examples, TASK).matrix(queries)[1]
    exact = expensive.fit(module, examples, TASK, **given).matrix(queries)[1]
    before = state_of(module)
    fitted = Rerank(first, expensive, candidates=31).fit(module, examples, TASK, **given)
    found = fitted.scores(queries, k=31, details=False)
    assert_same(before, state_of(module))
    for row, close, scores in zip(found, near, exact, strict=True):
        shortlist = close.topk(31).indices.tolist()
        listed = {each.example_id: each.score for each in (*row.helpful, *row.harmful)}
        assert set(listed) == set(shortlist)  # both ends of the exact scores are of what is near
        assert listed == pytest.approx({i: float(scores[i]) for i in shortlist}, rel=1e-4, abs=1e-9)
        assert row.approximation.notes[-1].startswith("reranked: the 31 foremost of feature_similarity (")
        assert row.approximation.measure == "loss"
        assert row.notes == ("scored 1000 examples; reranked 31",)


def test_as_many_neighbours_as_examples_are_all_of_them_those_of_negative_cosine_too():
    fitted = Rerank("feature_similarity", "exact", candidates=1000).fit(trained(), data(), TASK)
    assert fitted.scores(some(2), details=False)[1].notes == ("scored 1000 examples; reranked 1000",)
    assert fitted.first.approximation.notes == ("features: input of 2",)
    assert fitted.then.approximation.coverage == 1.0  # `layers` are those of parameters


def test_neighbours_are_the_same_whatever_is_measured_of_each_query():
    queries, module = some(4), trained()
    fitted = Rerank("feature_similarity", GradientSimilarity("dot"), candidates=12).fit(module, data(), TASK)

    def most(module, batch):
        return module(batch["pixels"]).max(dim=1).values

    by_loss, by_logit = (fitted.matrix(queries, measure=each)[1] for each in (None, most))
    assert torch.equal(by_loss != 0, by_logit != 0)
    assert not torch.allclose(by_loss, by_logit)
    fitted.then.gradients = lambda batch, measure, summed: [torch.zeros(7, 1)]
    with pytest.raises(ValueError, match="`measure` has 7 values of 4 queries, and 'feature_similarity' looks"):
        fitted.matrix(queries)


def test_a_query_without_a_gradient_has_no_candidates():
    queries = some(2)
    queries = {**queries, "pixels": torch.zeros_like(queries["pixels"])}
    fitted = Rerank(then="gradient_similarity", layers=["0"]).fit(trained(), data(), TASK)
    fitted.first.stream = lambda queries, examples: iter([(torch.arange(4), torch.zeros(2, 4))])
    found = fitted.scores(queries)
    assert [len(row.helpful + row.harmful) for row in found] == [0, 0]
    assert found[0].notes == ("scored 4 examples; reranked 0",)


def test_options_reach_both_methods_and_wrong_ones_are_refused():
    method = Rerank("gradient_similarity", "projected_gradients", layers="last", seed=7)
    fitted = method.fit(trained(), data(), TASK)
    assert (fitted.first.approximation.layers, fitted.then.approximation.layers) == (("2",), ("2",))
    assert fitted.approximation.seed == 7
    with pytest.raises(ValueError, match="`candidates=1`"):
        Rerank(candidates=1)
    with pytest.raises(ValueError, match="Did you mean 'tracin'"):
        Rerank(then="tracinn").check(trained(), TASK)
    with pytest.raises(ValueError, match="the run has written none"):
        Rerank(then=TracIn()).fit(trained(), data(), TASK)
    with pytest.raises(ValueError, match="reads a live optimizer"):
        Rerank(GradientSimilarity(preconditioner="adam"), "tracin").fit(trained(), data(), TASK)
