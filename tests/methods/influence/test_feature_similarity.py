"""Similarity of features: held to a loop in double precision, to neighbours, and to what it must not say."""

import pytest
import torch
from blobs import Keeps, fit
from digits import DigitsTask, digits, network, split, trained
from purity import Texts, Toy, ToyTask, assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for, wordpiece
from torch import nn
from torch.utils.data import DataLoader, default_collate

from lightning_interpret import FeatureSimilarity, InfluenceRow, NearestNeighbors, SequenceClassification
from lightning_interpret.methods.influence import Rerank, SaliencyInfluence

TASK = DigitsTask()
TEXTS = ["the player was great .", "a dull film", "he is not a dull film was he", "bad movie ."]


def queries(count=200):
    return {name: values[:count] for name, values in digits()[1].items()}


def hidden(pixels):
    return trained(torch.float64)[:2](pixels.double()).detach()


def by_hand(similarity, a, b):
    if similarity == "dot":
        return float(sum(x * y for x, y in zip(a, b, strict=True)))
    if similarity == "euclidean":
        return float(1 / (1 + sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5))
    sizes = [sum(x * x for x in each) ** 0.5 for each in (a, b)]
    return float(sum(x * y for x, y in zip(a, b, strict=True)) / sizes[0] / sizes[1])


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_the_foremost_example_has_the_class_that_the_query_is_predicted_as(similarity):
    train, _ = digits()
    ids, scores = FeatureSimilarity(similarity=similarity).fit(trained(), split(train, 300), TASK).matrix(queries())
    predicted = trained()(queries()["pixels"]).argmax(dim=1)
    assert float((train["labels"][ids[scores.argmax(dim=1)]] == predicted).float().mean()) > 0.95


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "dot"])
def test_scores_are_those_of_a_loop_in_double_precision(similarity):
    train, module = digits()[0], trained()
    part = {name: values[:12] for name, values in train.items()}
    before = state_of(module)
    fitted = FeatureSimilarity(similarity=similarity).fit(module, split(part, 5), TASK)
    ids, scores = fitted.matrix(queries(4))
    own = fitted.self_influence()[1]
    assert_same(before, state_of(module))
    of_query, of_train = hidden(queries(4)["pixels"]).tolist(), hidden(part["pixels"]).tolist()
    exact = torch.tensor([[by_hand(similarity, a, b) for b in of_train] for a in of_query])
    assert ids.tolist() == list(range(12))
    torch.testing.assert_close(scores, exact, rtol=2e-6, atol=2e-6)
    expected = torch.tensor([by_hand(similarity, b, b) for b in of_train])
    torch.testing.assert_close(own, expected, rtol=2e-6, atol=2e-6)
    # several queries as one: with their sum, at a distance from their mean
    row = fitted.scores(iter(split(queries(4), 3)), k=3, aggregate=True, details=False)[0]
    whole = hidden(queries(4)["pixels"]).sum(dim=0) / (4 if similarity == "euclidean" else 1)
    summed = torch.tensor([by_hand(similarity, whole.tolist(), b) for b in of_train])
    assert (row.queries, row.harmful) == (4, ())
    assert [each.example_id for each in row.helpful] == summed.topk(3).indices.tolist()
    assert [each.score for each in row.helpful] == pytest.approx(summed.topk(3).values.tolist(), rel=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_record_lists_the_nearest_neighbours_in_their_order_and_nothing_as_harmful(metric):
    examples = split(digits()[0], 170)
    found = FeatureSimilarity(similarity=metric).fit(trained(), examples, TASK).scores(queries(20), k=10)
    near = NearestNeighbors(metric=metric, k=10).fit(trained(), examples, TASK).find(queries(20))
    for row, other in zip(found, near, strict=True):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in other.neighbors]
        close = [1 - e.distance if metric == "cosine" else 1 / (1 + e.distance) for e in other.neighbors]
        assert [each.score for each in row.helpful] == pytest.approx(close, rel=1e-5)
        assert row.harmful == ()
        assert row.helpful[0].gold == other.neighbors[0].gold is not None
        assert (row.approximation.measure, row.approximation.coverage) == (None, None)
        assert row.approximation.notes == ("features: input of 2",)
    assert InfluenceRow.from_dict(found[0].to_dict()) == found[0]
    assert "It is a similarity, and says nothing of a removal." in str(found[0])
    assert "removing" not in str(found[0])


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_features_of_texts_do_not_depend_on_the_batch_or_its_padding(name):
    module = classifier(name)
    task = SequenceClassification(tokenizer_for(name, pad_token="[PAD]"))
    batch = {**batch_of(task.tokenizer, TEXTS, labels=[2, 0, 1, 0]), "example_id": torch.arange(len(TEXTS))}
    alone = [
        {**batch_of(task.tokenizer, [text], labels=[0]), "example_id": torch.tensor([i])}
        for i, text in enumerate(TEXTS)
    ]
    before = state_of(module)
    together = FeatureSimilarity(similarity="dot").fit(module, [batch], task).matrix(batch)[1]
    one_by_one = FeatureSimilarity(similarity="dot").fit(module, alone, task)
    rows = torch.cat([one_by_one.matrix(each)[1] for each in alone])
    torch.testing.assert_close(together, rows, rtol=1e-5, atol=1e-5)
    assert_same(before, state_of(module))


def test_features_of_norm_0_are_like_nothing_and_those_that_are_not_finite_are_skipped():
    module = nn.Sequential(nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 10, bias=False))
    part = {name: values[:6].clone() for name, values in digits()[0].items()}
    part["pixels"][2], part["pixels"][4] = 0.0, float("nan")
    fitted = FeatureSimilarity().fit(module, split(part, 1), TASK)
    asked = {name: values.clone() for name, values in queries(3).items()}
    asked["pixels"][1] = 0.0
    scores = fitted.matrix(asked)[1]
    assert (scores[:, 2] == 0).all()
    assert (scores[1, [0, 1, 2, 3, 5]] == 0).all()
    assert scores[:, 4].isnan().all()
    own = fitted.self_influence()[1]
    assert own[2] == 0
    assert own[4].isnan()
    assert (own[[0, 1, 3, 5]] == 1).all()
    row = fitted.scores(asked, k=50)[0]
    assert (row.examples, row.skipped) == (5, 1)
    assert row.notes == ("skipped, as their feature vectors are not finite: 4",)
    assert "1 skipped, as their features were not finite" in str(row)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean", "dot"])
def test_a_query_whose_features_are_not_finite_is_named_and_the_others_are_answered(similarity):
    fitted = FeatureSimilarity(similarity=similarity).fit(trained(), split(digits()[0], 500), TASK)
    asked = {name: values.clone() for name, values in queries(3).items()}
    asked["pixels"][1, 5] = float("inf")
    asked["pixels"][1, 6] = float("nan")
    first, bad, _, whole = fitted.scores(asked, k=2, aggregate="also", details=False)
    assert (bad.helpful, bad.harmful) == ((), ())
    assert bad.reasons == {"influence": "the query's feature vector is not finite"}
    good = {name: values[[0, 2]] for name, values in queries(3).items()}
    expected = fitted.scores(good, k=2, aggregate="also", details=False)
    for row, other in ((first, expected[0]), (whole, expected[2])):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in other.helpful]
        assert [each.score for each in row.helpful] == pytest.approx([each.score for each in other.helpful], rel=1e-5)


def test_layers_may_be_named_and_need_not_be_trained():
    module = network().requires_grad_(False)
    fitted = FeatureSimilarity(similarity="dot", layers=["0", "2"]).fit(module, split(digits()[0], 500), TASK)
    with torch.no_grad():
        a, b = (torch.cat([module[0](p), module(p)], dim=1) for p in (queries(3)["pixels"], digits()[0]["pixels"]))
    torch.testing.assert_close(fitted.matrix(queries(3))[1], a @ b.T, rtol=1e-5, atol=1e-5)
    assert fitted.approximation.notes == ("features: 0 + 2",)


def test_what_has_no_part_in_it_is_refused_by_name():
    with pytest.raises(ValueError, match="Did you mean 'cosine'"):
        FeatureSimilarity(similarity="cosin")
    with pytest.raises(ValueError, match="`layers='all'` are no features"):
        FeatureSimilarity(layers="all")
    examples = split(digits()[0], 500)
    with pytest.raises(ValueError, match=r"layer.*nothing"):
        FeatureSimilarity(layers="nothing").fit(trained(), examples, TASK)
    with pytest.raises(ValueError, match="no examples"):
        FeatureSimilarity().fit(trained(), [], TASK)
    with pytest.raises(ValueError, match="`weight_decay=-1"):
        FeatureSimilarity().fit(trained(), examples, TASK, weight_decay=-1.0)
    with pytest.raises(ValueError, match="`measure` has no part in 'feature_similarity'"):
        FeatureSimilarity().fit(trained(), examples, TASK).scores(queries(2), measure=TASK.losses)
    saliency = SaliencyInfluence(influence="feature_similarity").fit(trained(), examples, TASK)
    assert saliency.approximation.notes[-1].startswith("influence by 'feature_similarity'")


class Lenient(Toy):
    """Validates without labels."""

    def validation_step(self, batch, batch_idx):
        self(batch["input_ids"])


def unlabelled(rows):
    return {name: values for name, values in default_collate(rows).items() if name != "labels"}


@pytest.mark.parametrize(
    "method", ["feature_similarity", Rerank("feature_similarity", "exact", candidates=6, layers="last")]
)
def test_a_monitor_asks_for_no_label(method, tmp_path):
    val = DataLoader(Texts(8, seed=1), batch_size=4, collate_fn=unlabelled)
    monitor = Keeps(method, task=ToyTask(wordpiece()), probes=[1, 2], suspects=0, queries="fixed")
    fit(monitor, tmp_path, module=Lenient(), train=DataLoader(Texts(12), batch_size=4), val=val)
    (rows,) = monitor.runs
    assert [row.example_id for row in rows] == [1, 2]
    for row in rows:
        near = [each.example_id for each in row.neighbors.neighbors]
        assert len(row.helpful) == 5 or row.harmful
        without = "the query has no label: its loss is that of the prediction" in row.notes
        assert without == isinstance(method, Rerank)
        assert len(near) == 5


def test_a_saliencys_curvature_may_look_at_neighbours_only():
    module = classifier("bert", dtype=torch.float64)
    task = SequenceClassification(tokenizer_for("bert", pad_token="[PAD]"))
    batch = {**batch_of(task.tokenizer, TEXTS, labels=[2, 0, 1, 0]), "example_id": torch.arange(len(TEXTS))}
    inner = Rerank("feature_similarity", "exact", candidates=2, layers="last")
    row = SaliencyInfluence(influence=inner).fit(module, [batch], task).scores(batch)[0]
    assert len(row.helpful + row.harmful) == 2
    assert row.approximation.measure.startswith("saliency of token")
    several = SaliencyInfluence(influence=inner, top_tokens=2).fit(module, [batch], task)
    with pytest.raises(ValueError, match="`measure` has 8 values of 4 queries"):
        several.scores(batch)


def test_a_monitor_shows_it(tmp_path):
    monitor = fit(Keeps("feature_similarity", probes=2, aggregate=True, suspects=0), tmp_path)
    (rows,) = monitor.runs
    assert [len(row.helpful) for row in rows] == [5, 5, 5]
    assert all(row.approximation.unit == "cosine of features" and row.examples == 30 for row in rows)
    assert all(row.helpful[0].gold is not None and not row.harmful for row in rows)
    assert monitor.scalars[0]["failures"] == 0
    assert monitor.scalars[0]["self_influence_100"] == pytest.approx(1)
