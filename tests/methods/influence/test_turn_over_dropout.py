"""Turn-over dropout read out: held to two forwards a pair, one after the other, and to what no mask has learnt."""

import pytest
import torch
from digits import DigitsTask, digits, split
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for
from torch import nn

from lightning_interpret import InfluenceRow, SequenceClassification, TurnOverDropoutInfluence
from lightning_interpret.data import TrainingExamples
from lightning_interpret.layers import TurnOverDropout
from lightning_interpret.methods.influence.base import SecondOrder

TASK = DigitsTask()
TEXTS = ["the player was great .", "a dull film", "he is not a dull film was he", "bad movie .", "very good"]
LABELS = [2, 0, 1, 0, 1]


class Masked(nn.Module):
    """A network whose layers are masked as the mixin does it."""

    def __init__(self, net, sites, rate=0.5):
        super().__init__()
        self.net = net
        self.turn_over_dropout = TurnOverDropout(rate, seed=3)
        self.turn_over_dropout.attach(self, sites)

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


def perceptron(sites, rate=0.5, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 10))
    return Masked(net, sites, rate).to(dtype).eval()


def by_hand(module, task, train_ids, query):
    """Return the scores of training examples on a batch of one query: two forwards of it for each of them."""
    found, dropout = [], module.turn_over_dropout
    for i in train_ids:
        with torch.no_grad():
            with dropout.unseen(torch.tensor([i])):
                without = task.losses(module, query)
            with dropout.seen(torch.tensor([i])):
                found.append(without - task.losses(module, query))
    return torch.stack(found, dim=1)


def pixels(dtype, count=4):
    return {name: values[:count] for name, values in digits(dtype)[1].items()}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-10)])
@pytest.mark.parametrize("sites", [["input of net.4"], ["net.0", "net.2"], ["net.1", "input of net.4"]])
@pytest.mark.parametrize("rate", [0.5, 0.3])
def test_scores_are_those_of_two_forwards_a_pair(sites, rate, dtype, limit):
    module, train = perceptron(sites, rate, dtype), {name: values[:30] for name, values in digits(dtype)[0].items()}
    before = state_of(module)
    fitted = TurnOverDropoutInfluence().fit(module, split(train, 11), TASK)
    queries = pixels(dtype)
    ids, scores = fitted.matrix(queries)
    own_ids, own = fitted.self_influence()
    assert_same(before, state_of(module))
    for row, query in zip(scores, split(queries, 1), strict=True):
        expected = by_hand(module, TASK, ids.tolist(), query)[0]
        torch.testing.assert_close(row, expected, rtol=0, atol=limit)
    for i, score, example in zip(own_ids.tolist(), own, split(train, 1), strict=True):
        torch.testing.assert_close(score, by_hand(module, TASK, [i], example)[0, 0], rtol=0, atol=limit)
    assert own_ids.tolist() == ids.tolist() == list(range(30))


def texts(name, sites, rate=0.5, dtype=torch.float64):
    """A tiny classifier, its task and a batch of texts with padding."""
    module = Masked(classifier(name, dtype=dtype), [site.replace("~", "net.") for site in sites], rate).eval()
    task = SequenceClassification(tokenizer_for(name))
    batch = {**batch_of(task.tokenizer, TEXTS, labels=LABELS), "example_id": torch.arange(len(TEXTS))}
    return module, task, batch


BERT = ["~bert.encoder.layer.0.output.dense", "~bert.encoder.layer.1.output.dense"]


@pytest.mark.parametrize(
    ("name", "sites", "way"),
    [
        ("bert", ["input of ~classifier"], "multiplied"),
        ("bert", [*BERT, "input of ~classifier"], "mapped"),
        ("gpt2", ["~transformer.h.0.mlp.c_proj", "input of ~score"], "mapped"),
        ("gpt2", ["input of ~score"], "multiplied"),
        ("roberta", ["~roberta.encoder.layer.0.output.dense"], "mapped"),
    ],
)
def test_texts_with_padding_score_as_two_forwards_a_pair_of_each_alone(name, sites, way):
    module, task, batch = texts(name, sites, rate=0.3)
    before = state_of(module)
    fitted = TurnOverDropoutInfluence(shortlist="all").fit(module, [batch], task)
    (asked,) = fitted.gradients(batch)
    assert asked.parts[0].way == way
    scores = fitted.matrix(batch)[1]
    own = fitted.self_influence()[1]
    assert_same(before, state_of(module))
    alone = [batch_of(task.tokenizer, [text], labels=[label]) for text, label in zip(TEXTS, LABELS, strict=True)]
    expected = torch.cat([by_hand(module, task, range(5), query) for query in alone])
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(own, expected.diagonal(), rtol=0, atol=1e-10)
    assert scores.abs().max() > 1e-3


class Convolution(nn.Module):
    """Convolutions, whose channels are masked, and a head."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 10)
        self.turn_over_dropout = TurnOverDropout(0.3)
        self.turn_over_dropout.attach(self, ["first", "input of last"])

    def forward(self, x):
        return self.last(self.first(x.reshape(-1, 1, 8, 8)).relu().mean(dim=(2, 3)))


class Counting(Convolution):
    """Cannot be mapped: what it does depends on values."""

    def forward(self, x):
        found = super().forward(x)
        return found + 1.0 if float(found.detach().sum()) > 1e9 else found


@pytest.mark.parametrize(("kind", "way"), [(Convolution, "mapped"), (Counting, "repeated")])
def test_where_a_model_cannot_be_mapped_its_examples_are_repeated(kind, way):
    module, train = kind().double().eval(), {name: values[:9] for name, values in digits(torch.float64)[0].items()}
    fitted = TurnOverDropoutInfluence(shortlist="all").fit(module, split(train, 5), TASK)
    queries = pixels(torch.float64, 3)
    (asked,) = fitted.gradients(queries)
    assert asked.parts[0].way == way
    expected = torch.cat([by_hand(module, TASK, range(9), query) for query in split(queries, 1)])
    torch.testing.assert_close(fitted.matrix(queries)[1], expected, rtol=0, atol=1e-10)


def test_any_measure_of_a_forward_is_read_and_one_of_several_values_too():
    module, train = perceptron(["net.0"]), {name: values[:9] for name, values in digits(torch.float64)[0].items()}
    fitted = TurnOverDropoutInfluence().fit(module, [train], TASK)
    queries, dropout = pixels(torch.float64, 2), module.turn_over_dropout

    def first_two(net, batch):
        return TASK.logits(net, batch)[:, :2].flatten()

    found = fitted.matrix(queries, first_two)[1]
    with torch.no_grad(), dropout.unseen(torch.tensor([4, 4])):
        without = module(queries["pixels"])
    with torch.no_grad(), dropout.seen(torch.tensor([4, 4])):
        expected = (without - module(queries["pixels"]))[:, :2].flatten()
    torch.testing.assert_close(found[:, 4], expected, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match="`measure` has 4 values of 2 queries"):
        TurnOverDropoutInfluence(shortlist=3).fit(module, [train], TASK).matrix(queries, first_two)


class Data:
    """Digits as a data set whose ids are known, which counts what is read of it."""

    def __init__(self, count=200):
        self.batch = {name: values[:count] for name, values in digits(torch.float64)[0].items()}
        self.batch["example_id"] = 7 * torch.arange(count) + 2**33
        self.example_ids, self.read = self.batch["example_id"], 0

    def __len__(self):
        return len(self.example_ids)

    def __getitem__(self, i):
        self.read += 1
        return {name: values[i] for name, values in self.batch.items()}


def test_no_training_example_is_read_for_scores_but_those_that_are_shown():
    data, module = Data(), perceptron(["input of net.4"])
    fitted = TurnOverDropoutInfluence().fit(module, TrainingExamples(data, batch_size=16), TASK)
    assert data.read == 16
    rows = fitted.scores(pixels(torch.float64), k=2)
    assert data.read <= 16 + 4 * 4
    ids, scores = fitted.matrix(pixels(torch.float64))
    for row, own in zip(rows, scores, strict=True):
        assert [each.example_id for each in row.helpful] == ids[own.topk(2).indices].tolist()
        assert [each.example_id for each in row.harmful] == ids[(-own).topk(2).indices].tolist()
        assert (row.examples, row.skipped, row.notes) == (200, 0, ())
        assert row.helpful[0].gold is not None
        stated = row.approximation
        assert (stated.method, stated.seed, stated.curvature, stated.coverage) == ("turn_over_dropout", 3, None, None)
        assert stated.notes == ("turn-over dropout of 0.5 at input of net.4",)
    assert InfluenceRow.from_dict(rows[0].to_dict()) == rows[0]
    assert "query's loss in the part of the network that has not learnt the example, less that" in str(rows[0])
    some = fitted.scores(pixels(torch.float64), k=2, examples=[Data(20).batch])[0]
    assert some.examples == 20  # of batches, whose ids only reading tells


def test_several_queries_as_one_are_the_sum_of_their_scores():
    data, module = Data(), perceptron(["net.0", "input of net.4"])
    fitted = TurnOverDropoutInfluence().fit(module, TrainingExamples(data), TASK)
    queries = pixels(torch.float64)
    ids, scores = fitted.matrix(queries)
    for rows in (
        fitted.scores(queries, k=3, aggregate="also", details=False)[-1:],
        fitted.scores(iter(split(queries, 3)), k=3, aggregate=True, details=False),
    ):
        best = scores.sum(dim=0).topk(3)
        assert (len(rows), rows[0].queries) == (1, 4)
        assert [each.example_id for each in rows[0].helpful] == ids[best.indices].tolist()
        assert [each.score for each in rows[0].helpful] == pytest.approx(best.values.tolist(), abs=1e-10)


def test_a_shortlist_reads_the_masks_of_each_querys_nearest_examples_alone():
    data, module = Data(), perceptron(["net.0", "input of net.4"])
    examples, queries = TrainingExamples(data), pixels(torch.float64)
    every = TurnOverDropoutInfluence().fit(module, examples, TASK)
    few = TurnOverDropoutInfluence(shortlist=30).fit(module, examples, TASK)
    with torch.no_grad():
        hidden, near = module.net[:4](data.batch["pixels"]), module.net[:4](queries["pixels"])
    ids, scores = every.matrix(queries)
    some, found = few.matrix(queries)
    for row, own, nearest in zip(found, scores, torch.cdist(near, hidden).topk(30, largest=False).indices, strict=True):
        expected = torch.zeros(200, dtype=torch.float64)
        expected[nearest] = own[nearest]
        whole = torch.zeros_like(expected)
        whole[torch.searchsorted(ids, some)] = row
        torch.testing.assert_close(whole, expected, rtol=0, atol=1e-10)
    rows = few.scores(queries, aggregate="also", details=False)
    for row in rows:
        assert row.examples == 200
        assert row.notes == ("of 200 examples the masks of the 30 nearest were read",)
    whole = scores.sum(dim=0)[torch.cdist(near.mean(dim=0, keepdim=True), hidden)[0].topk(30, largest=False).indices]
    assert rows[-1].helpful[0].score == pytest.approx(float(whole.max()), abs=1e-10)
    all_of_them = TurnOverDropoutInfluence(shortlist=200).fit(module, examples, TASK).scores(queries, details=False)[0]
    assert (all_of_them.examples, all_of_them.notes) == (200, ())


def test_by_default_all_are_read_where_masks_act_on_vectors_and_the_nearest_where_they_act_on_sequences():
    for sites, count in ((["input of ~classifier"], None), (BERT, 1000)):
        module, task, batch = texts("bert", sites)
        assert TurnOverDropoutInfluence().fit(module, [batch], task).count == count
    assert TurnOverDropoutInfluence().fit(perceptron(["net.0"]), Data().batch and [Data().batch], TASK).count is None


def test_what_is_not_finite_is_left_out_and_said():
    module, data = perceptron(["net.0"]), Data(20)
    fitted = TurnOverDropoutInfluence().fit(module, TrainingExamples(data), TASK)
    queries = {name: values.clone() for name, values in pixels(torch.float64, 3).items()}
    queries["pixels"][1, 5] = float("nan")
    first, bad, _, whole = fitted.scores(queries, k=2, aggregate="also", details=False)
    assert (bad.helpful, bad.harmful, bad.reasons) == ((), (), {"influence": "the query's value is not finite"})
    good = {name: values[[0, 2]] for name, values in pixels(torch.float64, 3).items()}
    expected = fitted.scores(good, k=2, aggregate="also", details=False)
    for row, other in ((first, expected[0]), (whole, expected[2])):
        assert [each.score for each in row.helpful] == pytest.approx([each.score for each in other.helpful], abs=1e-10)


class Slope(SecondOrder):
    """Made of gradients."""

    def __call__(self, module, batch):
        raise AssertionError("never called")


def test_what_cannot_be_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match="`layers='last'`"):
        TurnOverDropoutInfluence(layers="last")
    with pytest.raises(ValueError, match="`shortlist=0`"):
        TurnOverDropoutInfluence(shortlist=0)
    batch = Data(10).batch
    with pytest.raises(ValueError, match=r"`class Model\(TurnOverDropoutMixin, ...\)`"):
        TurnOverDropoutInfluence().fit(nn.Linear(64, 10), [batch], TASK)
    plain = perceptron(["net.0"])
    plain.turn_over_dropout.plain = True
    with pytest.raises(ValueError, match="drawn anew at each step"):
        TurnOverDropoutInfluence().check(plain, TASK)
    module = perceptron(["net.0"])
    with pytest.raises(ValueError, match="no examples"):
        TurnOverDropoutInfluence().fit(module, [], TASK)
    renamed = TrainingExamples(Data(10), ids=torch.arange(10))
    with pytest.raises(ValueError, match=r"other ids \(0, ...\) than the `example_id`"):
        TurnOverDropoutInfluence().fit(module, renamed, TASK)
    module.turn_over_dropout.detach()
    with pytest.raises(ValueError, match=r"None of the layers that are masked \(none\)"):
        TurnOverDropoutInfluence().fit(module, [batch], TASK)
    fitted = TurnOverDropoutInfluence().fit(perceptron(["net.0"]), [batch], TASK)
    with pytest.raises(ValueError, match="carry no `example_id`"):
        fitted.own({name: values for name, values in batch.items() if name != "example_id"})
    with pytest.raises(ValueError, match="ask another method"):
        fitted.scores(batch, measure=Slope())
