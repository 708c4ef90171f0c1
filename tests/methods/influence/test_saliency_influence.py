"""The influence on a saliency: its gradient by differences, its closed form, its tokens, and what is refused.

What retraining says is in `test_saliency_retraining.py`.
"""

import pytest
import torch
from purity import ToyTask, assert_same, fit, influence, state_of
from tiny import Bag, BagTask, MeanPooled, MeanPooledTask, bag_task, batch_of, classifier, wordpiece
from torch import nn
from torch.nn import functional as F

from lightning_interpret import (
    ConjugateGradientInfluence,
    ExactInfluence,
    GradientSimilarity,
    GradientTimesInput,
    ImageClassification,
    ProjectedGradients,
    Rerank,
    SaliencyInfluence,
    SequenceClassification,
    TracIn,
)
from lightning_interpret import Gradient as GradientSize
from lightning_interpret.functional.influence.saliency import SALIENCIES
from lightning_interpret.functional.scope import explaining

TRAIN = ["a great film", "dull and bad movie .", "the play was not very good", "he is great", "bad", "a good movie"]
QUERIES = ["he is unaffable and a very good film was not dull", "the player was great .", "dull"]
GOLD = [2, 0, 1, 2, 0, 2]


def data(texts=TRAIN, first=0, **options):
    batch = dict(batch_of(wordpiece(), texts, labels=[GOLD[(first + i) % 6] for i in range(len(texts))], **options))
    return batch | {"example_id": torch.arange(first, first + len(texts))}


def bag(size=6):
    return Bag(size=size).double()


def bert_task():
    return SequenceClassification(wordpiece())


# The gradient of a saliency, and how it is put together


def by_hand(features, logits, classes, saliency):
    """Return the saliency (B, T) of given classes at the word embeddings: no code of the package."""
    features = features.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(logits(features).gather(1, classes[:, None]).sum(), features)
    if saliency == "gradient_times_input":
        return (slopes * features).sum(dim=2).detach()
    return slopes.norm(dim=2) if saliency == "l2" else slopes.abs().mean(dim=2)


def bag_saliency(model, batch, classes, saliency):
    def logits(features):
        mask = batch["attention_mask"].unsqueeze(-1)
        return model.head(torch.tanh(model.hidden((features * mask).sum(dim=1) / mask.sum(dim=1))))

    return by_hand(model.embedding(batch["input_ids"]), logits, classes, saliency)


def bert_saliency(model, batch, classes, saliency):
    def logits(features):
        return model(inputs_embeds=features, attention_mask=batch["attention_mask"]).logits

    return by_hand(model.bert.embeddings.word_embeddings(batch["input_ids"]), logits, classes, saliency)


def gradients_of(fitted, batch):
    with explaining(fitted.module, full_precision=True):
        return fitted.gradients(batch)


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_the_gradient_in_every_parameter_is_that_of_finite_differences(saliency):
    model, batch, step = bag(4), data(QUERIES), 1e-5
    classes = model(batch["input_ids"], batch["attention_mask"]).argmax(dim=1)
    method = SaliencyInfluence(saliency=saliency, influence=GradientSimilarity("dot"), tokens=[0])
    fitted = method.fit(model, [data()], bag_task())
    found = gradients_of(fitted, batch)
    for block, own in zip(fitted.blocks, found, strict=True):
        true = {}
        for key, parameter in block.parameters.items():
            flat, slopes = parameter.detach().view(-1), []
            for i in range(len(flat)):
                at = []
                for sign in (1, -1):
                    before = flat[i].clone()
                    flat[i] += sign * step
                    at.append(bag_saliency(model, batch, classes, saliency)[:, 1])  # after [CLS]
                    flat[i] = before
                slopes.append((at[0] - at[1]) / (2 * step))
            true[key] = torch.stack(slopes, dim=1).reshape(len(QUERIES), *parameter.shape)
        expected = torch.stack([block.stacked({k: v[m] for k, v in true.items()}) for m in range(len(QUERIES))])
        assert float((own - expected).norm()) <= 1e-6 * float(expected.norm()) + 1e-10, block.name
    assert [float(own.norm()) > 0 for own in found] == [True] * 3


@pytest.mark.parametrize("saliency", SALIENCIES)
def test_the_gradient_of_a_transformer_is_that_of_finite_differences_in_each_layer(saliency):
    model, batch, step = classifier("bert", dtype=torch.float64), data(QUERIES[:2]), 1e-5
    classes = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(dim=1)
    method = SaliencyInfluence(saliency=saliency, influence=GradientSimilarity("dot"), tokens=[3])
    fitted = method.fit(model, [data()], bert_task())
    generator, moved = torch.Generator().manual_seed(0), 0
    for block, own in zip(fitted.blocks, gradients_of(fitted, batch), strict=True):
        direction = {
            key: torch.randn(p.shape, generator=generator, dtype=p.dtype) for key, p in block.parameters.items()
        }
        at = []
        for sign in (1, -1):
            with torch.no_grad():
                for key, p in block.parameters.items():
                    p += sign * step * direction[key]
            at.append(bert_saliency(model, batch, classes, saliency)[:, 4])
            with torch.no_grad():
                for key, p in block.parameters.items():
                    p -= sign * step * direction[key]
        along = (own * block.stacked(direction)).flatten(1).sum(dim=1)
        torch.testing.assert_close(along, (at[0] - at[1]) / (2 * step), rtol=1e-6, atol=1e-9)
        moved += bool(along.abs().max() > 1e-6)
    assert moved >= len(fitted.blocks) - 1  # all but the head's bias, if that is one by itself


class Logistic(nn.Module):
    """Fixed embeddings, their mean, and a softmax regression on it."""

    def __init__(self, size=5):
        super().__init__()
        self.embedding, self.head = nn.Embedding(len(wordpiece()), size), nn.Linear(size, 3)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(generator=generator)
        self.embedding.weight.requires_grad_(False)
        self.double()

    def pooled(self, ids, mask):
        return (self.embedding(ids) * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1)[:, None]

    def forward(self, ids, mask):
        return self.head(self.pooled(ids, mask))


def test_of_a_softmax_regression_it_is_the_closed_form():
    model, train, queries, decay = Logistic(), data(), data(QUERIES), 0.1
    task = BagTask(wordpiece())
    method = SaliencyInfluence(influence=ExactInfluence(layers="all", curvature="hessian"), tokens=[1])
    ids, found = method.fit(model, [train], task, weight_decay=decay).matrix(data(QUERIES[:2]))
    with torch.no_grad():
        x = F.pad(model.pooled(train["input_ids"], train["attention_mask"]), (0, 1), value=1.0)
        p = model(train["input_ids"], train["attention_mask"]).softmax(dim=1)
        gradients = ((p - F.one_hot(train["labels"], 3))[:, :, None] * x[:, None]).flatten(1)
        root = torch.diag_embed(p) - p[:, :, None] * p[:, None]
        hessian = torch.einsum("nab,ni,nj->aibj", root, x, x).reshape(18, 18) / 6 + decay * torch.eye(18).double()
        classes = model(queries["input_ids"], queries["attention_mask"]).argmax(dim=1)[:2]
        tokens = model.embedding(queries["input_ids"][:2, 2]) / queries["attention_mask"][:2].sum(dim=1)[:, None]
        slope = (F.one_hot(classes, 3)[:, :, None] * F.pad(tokens, (0, 1))[:, None]).flatten(1)  # s = w_c · e_t / T
        expected = slope @ torch.linalg.solve(hessian, gradients.T) / 6
    assert ids.tolist() == list(range(6))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_scores_of_other_methods_are_their_products_with_the_same_gradient(tmp_path):
    model, train, queries, task = bag(), [data(TRAIN[:4]), data(TRAIN[4:], 4)], data(QUERIES), bag_task()
    dot = GradientSimilarity("dot")
    plain = dot.fit(model, train, task)
    found = SaliencyInfluence(influence=dot).fit(model, train, task)
    ours = torch.cat([each.flatten(1) for each in gradients_of(found, queries)], dim=1)
    with explaining(model):
        whole = [plain.blocks[i].flat(each) for i, each in enumerate(plain.gradients(data()))]
    theirs = torch.cat(whole, dim=1)
    # the embedding's rows that nobody read are zeros in both
    torch.testing.assert_close(found.matrix(queries)[1], ours @ theirs.T, rtol=1e-9, atol=1e-12)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "same.ckpt")
    tracin = TracIn(checkpoints=[str(tmp_path / "same.ckpt")], learning_rates=[0.5])
    traced = SaliencyInfluence(influence=tracin).fit(model, train, task)
    torch.testing.assert_close(traced.matrix(queries)[1], 0.5 * ours @ theirs.T, rtol=1e-9, atol=1e-12)
    given = {"weight_decay": 0.05}
    exact = SaliencyInfluence(layers="all").fit(model, train, task, **given)
    solver = ConjugateGradientInfluence(tolerance=1e-10)
    solved = SaliencyInfluence(influence=solver).fit(model, train, task, **given)
    torch.testing.assert_close(solved.matrix(queries)[1], exact.matrix(queries)[1], rtol=1e-6, atol=1e-9)
    stated = solved.scores(queries)[0].approximation
    assert stated.converged is True  # which the solver says only when it has solved
    assert (stated.damping, stated.weight_decay, stated.coverage) == (0.0, 0.05, 1.0)
    assert torch.equal(solved.self_influence()[1], solved.inner.self_influence()[1])
    both = SaliencyInfluence(influence=Rerank(then=ExactInfluence(layers="all"), candidates=12)).fit(
        model, train, task, **given
    )
    for row, alone in zip(both.scores(queries), exact.scores(queries), strict=True):
        assert [each.example_id for each in row.harmful] == [each.example_id for each in alone.harmful]
    ekfac = SaliencyInfluence(influence="ekfac", layers="all").fit(model, train, task, **given)
    assert float(torch.corrcoef(torch.stack([ekfac.matrix(queries)[1][0], exact.matrix(queries)[1][0]]))[0, 1]) > 0.5
    with pytest.raises(ValueError, match="'projected_gradients' reads gradients by what layers read"):
        SaliencyInfluence(influence=ProjectedGradients(16)).fit(model, train, task).matrix(queries)


# Which tokens, and what is said of them


@pytest.mark.parametrize(
    ("saliency", "method"),
    [("gradient_times_input", GradientTimesInput()), ("l2", GradientSize()), ("mean_abs", GradientSize("mean_abs"))],
)
def test_the_tokens_are_the_strongest_of_the_saliency_and_never_special(saliency, method):
    model, queries, task = classifier("bert", dtype=torch.float64), data(QUERIES[:2], 40), bert_task()
    fitted = SaliencyInfluence(saliency=saliency, top_tokens=3).fit(model, [data()], task, weight_decay=0.1)
    rows = fitted.scores(queries, k=2)
    assert len(rows) == 6
    for m, record in enumerate(method(model, queries, task)):
        own = [(i, s) for i, s in enumerate(record.scores) if record.tokens[i] not in ("[CLS]", "[SEP]", "[PAD]")]
        ranked = sorted(own, key=lambda pair: -abs(pair[1]))[:3]
        for row, (place, score) in zip(rows[3 * m : 3 * m + 3], ranked, strict=True):
            token = record.tokens[place]
            assert row.example_id == 40 + m
            assert row.approximation.unit == f"change of the saliency of token {token!r} if the example is removed"
            assert row.notes[0].startswith(f"token {token!r} (number {place - 1}): saliency {score:+.4g}, ")
    assert str(rows[0]).count(f"would raise the {rows[0].approximation.measure}") == 2
    assert "loss if" not in str(rows[0])
    assert rows[0].approximation.method == "saliency_influence"
    assert "influence by 'exact'" in rows[0].approximation.notes[-1]
    assert type(rows[0]).from_dict(rows[0].to_dict()) == rows[0]


def test_each_query_has_a_row_also_one_without_the_token():
    fitted = SaliencyInfluence().fit(bag(), [data()], bag_task())
    row, nothing = fitted.scores(data(["a good film", ""]), k=6)
    assert len(row.helpful + row.harmful) == 6
    assert nothing.helpful + nothing.harmful == ()
    assert nothing.notes == ("the text has no such token of its own: there is nothing to score",)
    fitted = SaliencyInfluence(tokens=[2, 0]).fit(bag(), [data()], bag_task())
    said = [row.approximation.measure for row in fitted.scores(data(["a good film", "dull"]))]
    nowhere = "saliency of the queries' tokens"
    assert said == ["saliency of token 'film'", "saliency of token 'a'", nowhere, "saliency of token 'dull'"]


@pytest.mark.parametrize(
    ("model", "task"),
    [
        (bag, bag_task),
        (lambda: classifier("bert", dtype=torch.float64), bert_task),
        (lambda: MeanPooled("bert", torch.float64), lambda: MeanPooledTask(wordpiece())),
    ],
)
def test_padding_and_batching_change_nothing_and_a_sum_is_the_sum(model, task):
    module, task = model(), task()
    fitted = SaliencyInfluence(layers="last").fit(module, [data(TRAIN[:4]), data(TRAIN[4:], 4)], task)
    together = fitted.matrix(data(QUERIES))[1]
    alone = torch.cat([fitted.matrix(data([text]))[1] for text in QUERIES])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    assert float(together.abs().max()) > 0
    (row,) = fitted.scores(iter([data(QUERIES[:1]), data(QUERIES[1:])]), k=6, aggregate=True)
    found = {each.example_id: each.score for each in row.helpful + row.harmful}
    expected = dict(enumerate(fitted.matrix(data(QUERIES))[1].sum(dim=0).tolist()))
    assert found == pytest.approx(expected, rel=1e-8, abs=1e-12)
    assert row.queries == 3
    assert row.approximation.unit == "change of the saliency of the queries' tokens if the example is removed"


def test_a_module_is_left_as_it_was_and_another_layer_can_be_asked():
    model = classifier("bert").train()
    model.bert.embeddings.word_embeddings.weight.requires_grad_(False)
    before = state_of(model)
    fitted = SaliencyInfluence(layer="bert.encoder.layer.0", saliency="l2").fit(model, [data()], bert_task())
    rows = fitted.scores(data(QUERIES))
    assert all(len(row.helpful + row.harmful) == 6 for row in rows)
    assert_same(before, state_of(model))


# What is refused, and the Monitor


def test_what_cannot_be_is_refused_by_name():
    for wrong, match in [
        ({"saliency": "l1"}, "`saliency='l1'`"),
        ({"output": "logits"}, "Did you mean 'logit'"),
        ({"tokens": "strong"}, "Did you mean 'strongest'"),
        ({"tokens": [-1]}, r"`tokens=\[-1\]`"),
        ({"tokens": []}, r"`tokens=\[\]`"),
        ({"tokens": [1], "top_tokens": 2}, "`top_tokens=2` is of the strongest"),
        ({"top_tokens": 0}, "`top_tokens=0`"),
    ]:
        with pytest.raises(ValueError, match=match):
            SaliencyInfluence(**wrong)
    task, model = bag_task(), bag()
    for method, match in [
        (SaliencyInfluence(top_tokens=2), "`top_tokens=2` makes 2 rows of each query"),
        (SaliencyInfluence(tokens=[0, 3]), r"`tokens=\[0, 3\]` makes 2 rows"),
        (SaliencyInfluence(layer="embeding"), "Did you mean 'embedding'"),
        (SaliencyInfluence(which="goood"), "Did you mean 'good'"),
        (SaliencyInfluence(influence="exakt"), "Did you mean 'exact'"),
    ]:
        with pytest.raises(ValueError, match=match):
            method.check(model, task)
    with pytest.raises(ValueError, match="ImageClassification reads images"):
        SaliencyInfluence().check(model, ImageClassification())
    SaliencyInfluence(tokens=[3]).check(model, task)
    with pytest.raises(ValueError, match="of no tokens"):
        SaliencyInfluence(layer="hidden").fit(model, [data()], task).scores(data(QUERIES))
    with pytest.raises(ValueError, match="`measure` is the saliency"):
        SaliencyInfluence().fit(model, [data()], task).scores(data(QUERIES), measure=task.losses)


class Unlabelled(ToyTask):
    """Sees no labels in the five queries."""

    def labels(self, batch):
        return super().labels(batch) if len(batch["input_ids"]) != 5 else None


@pytest.mark.parametrize("task", [ToyTask, Unlabelled])
def test_a_monitor_shows_a_row_of_each_query_and_training_stays_what_it_is(tmp_path, task):
    options = {"probes": 5, "queries": "fixed", "on_error": "raise", "track": 0, "suspects": 0}
    monitor = influence(method=SaliencyInfluence(layers="last"), task=task(wordpiece()), **options)
    rows, update = [], monitor.update
    monitor.update = lambda metrics, probe, *found: (rows.extend(found), update(metrics, probe, *found))
    watched, trainer = fit([monitor], tmp_path / "with", epochs=1)
    plain, _ = fit([], tmp_path / "without", epochs=1)
    assert_same(plain["state"], watched["state"])
    assert len(rows) >= 5
    assert len(rows) % 5 == 0
    assert all((row.loss is None) == (task is Unlabelled) for row in rows)
    assert not any("its loss is that of the prediction" in note for row in rows for note in row.notes)
    assert all(row.approximation.measure.startswith("saliency of token ") for row in rows)
    assert all(row.helpful or row.harmful for row in rows)
    assert float(trainer.callback_metrics["interpret/influence/failures"]) == 0
    refused = influence(method=SaliencyInfluence(top_tokens=2), task=ToyTask(wordpiece()), probes=3)
    with pytest.raises(ValueError, match="a Monitor shows one"):
        fit([refused], tmp_path / "refused", epochs=1)
