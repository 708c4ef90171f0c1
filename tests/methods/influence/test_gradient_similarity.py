from functools import cache

import pytest
import torch
from digits import DigitsTask, digits, network, split, trained
from purity import assert_same, state_of
from tiny import batch_of, classifier, tokenizer_for
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_interpret import SequenceClassification
from lightning_interpret.evidence import InfluenceRow
from lightning_interpret.functional.influence.blocks import Rows
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.influence import GradientSimilarity

TEXTS = ["the player was great .", "a dull film", "he is not a dull film was he", "bad movie ."]


def label_as_predicted(batch):
    return {**batch, "labels": trained()(batch["pixels"]).argmax(dim=1)}


def best(similarity):
    train, queries = digits()
    queries = label_as_predicted(queries)  # the gradient of what it says, right or wrong
    ids, scores = GradientSimilarity(similarity).fit(trained(), split(train, 100), DigitsTask()).matrix(queries)
    return float((train["labels"][ids[scores.argmax(dim=1)]] == queries["labels"]).float().mean())


def test_the_cosine_finds_examples_of_the_querys_class_and_the_dot_product_fewer():
    assert best("cosine") > 0.98
    assert best("cosine") > best("dot")


def test_a_record_says_ids_labels_and_coverage_and_comes_back_from_json():
    train, queries = digits()
    fitted = GradientSimilarity("dot").fit(trained(), split(train, 300), DigitsTask())
    row = fitted.scores({name: values[:3] for name, values in queries.items()}, k=4)[1]
    assert row.example_id == 1001
    assert row.gold == str(int(queries["labels"][1]))
    assert [each.score for each in row.helpful] == sorted((each.score for each in row.helpful), reverse=True)
    assert all(each.gold == str(int(train["labels"][each.example_id])) for each in row.helpful)
    assert (row.examples, row.skipped, row.approximation.coverage) == (1000, 0, 1.0)
    assert InfluenceRow.from_dict(row.to_dict()) == row
    assert torch.isfinite(torch.tensor([each.score for each in row.helpful + row.harmful])).all()


@cache
def text(dtype):
    """Tiny models on texts, in the middle of training with Adam: (module, task, batch, optimizer)."""
    found = {}
    for name in ("bert", "gpt2"):
        module = classifier(name, dtype=dtype)
        task = SequenceClassification(tokenizer_for(name, pad_token="[PAD]"))
        batch = batch_of(task.tokenizer, TEXTS, labels=[2, 0, 1, 0])
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-6)
        for _ in range(3):
            optimizer.zero_grad()
            task.losses(module, batch).mean().backward()
            optimizer.step()
        optimizer.zero_grad()
        found[name] = module, task, {**batch, "example_id": torch.arange(len(TEXTS))}, optimizer
    return found


def by_hand(module, task, batch, optimizer):
    """Return each example's gradients by name in a loop, and 1 / (sqrt(v) + eps) by name."""
    gradients = []
    for i in range(len(TEXTS)):
        loss = task.losses(module, task.take(batch, torch.tensor([i]))).sum()
        found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
        gradients.append(found)
    preconditioner = []
    for parameter in module.parameters():
        state = optimizer.state.get(parameter) or {"exp_avg_sq": torch.zeros_like(parameter), "step": 1}
        moment = state["exp_avg_sq"] / (1 - 0.99 ** float(state["step"]))
        preconditioner.append(torch.where(moment > 0, 1 / (moment.sqrt() + 1e-6), 0.0))
    return gradients, preconditioner


@pytest.mark.parametrize("name", ["bert", "gpt2"])
@pytest.mark.parametrize("preconditioner", [None, "adam"])
def test_products_and_cosines_are_those_of_a_loop_over_examples(name, preconditioner):
    module, task, batch, optimizer = text(torch.float64)[name]
    before = state_of(module)
    gradients, diagonal = by_hand(module, task, batch, optimizer)
    exact = torch.zeros(4, 4, dtype=torch.float64)
    for which, d in enumerate(diagonal):
        rows = [each[which] for each in gradients]
        if rows[0] is not None:
            flat = torch.stack(rows).flatten(1)
            exact += (flat * d.flatten() if preconditioner else flat) @ flat.T
    given = {"optimizer": optimizer} if preconditioner else {}
    dot = GradientSimilarity("dot", preconditioner).fit(module, [batch], task, **given)
    assert dot.approximation.coverage == 1.0
    torch.testing.assert_close(dot.matrix(batch)[1], exact, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(dot.self_influence()[1], exact.diagonal(), rtol=1e-9, atol=1e-12)
    cosine = GradientSimilarity("cosine", preconditioner).fit(module, [batch], task, **given)
    size = exact.diagonal().sqrt()
    torch.testing.assert_close(cosine.matrix(batch)[1], exact / size / size[:, None], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(cosine.self_influence()[1], torch.ones(4, dtype=torch.float64))
    assert_same(before, state_of(module))


def test_the_preconditioner_is_found_inside_the_scope_and_through_lightnings_wrapper():
    from lightning.pytorch.core.optimizer import LightningOptimizer

    module, task, batch, optimizer = text(torch.float64)["bert"]
    outside = GradientSimilarity("dot", "adam").fit(module, [batch], task, optimizer=optimizer).matrix(batch)[1]
    with explaining(module):
        wrapped = [LightningOptimizer(optimizer)]
        inside = GradientSimilarity("dot", "adam").fit(module, [batch], task, optimizer=wrapped).matrix(batch)[1]
    assert torch.equal(outside, inside)


def test_rows_that_no_text_has_read_are_left_out_of_the_preconditioned_norm():
    module, task, batch, optimizer = text(torch.float64)["bert"]
    other = batch_of(task.tokenizer, ["a very good play"], labels=[1])  # no training text says "very"
    fitted = GradientSimilarity("cosine", "adam").fit(module, [batch], task, optimizer=optimizer)
    gradients = fitted.gradients(other)
    rows = next(each for each in gradients if isinstance(each, Rows))
    unread = optimizer.state[module.bert.embeddings.word_embeddings.weight]["exp_avg_sq"][rows.index].sum(dim=1) == 0
    assert unread.any()
    scores = fitted.matrix(other)[1]
    rows.values[:, unread] *= 1e6
    again = next(fitted.stream(gradients, [(torch.arange(4), batch)]))[1]
    torch.testing.assert_close(scores, again)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (lambda p: None, r"there is none: give `fit\(\.\.\., optimizer="),
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), "SGD keeps no second moments"),
        (lambda p: torch.optim.Adam(p), "has taken no step"),
    ],
)
def test_what_has_no_second_moments_is_refused(optimizer, message):
    train, _ = digits()
    module = network()
    found = optimizer(module.parameters())
    if isinstance(found, torch.optim.SGD):
        cross_entropy(module(train["pixels"][:8]), train["labels"][:8]).backward()
        found.step()
    with pytest.raises(ValueError, match=message):
        GradientSimilarity(preconditioner="adam").fit(module, split(train, 500), DigitsTask(), optimizer=found)


@pytest.mark.parametrize("options", [{"similarity": "cosin"}, {"preconditioner": "adm"}])
def test_an_option_that_does_not_exist_is_refused_with_the_near_one(options):
    with pytest.raises(ValueError, match="Did you mean"):
        GradientSimilarity(**options)


def test_a_gradient_of_norm_zero_is_like_nothing_and_one_that_is_not_finite_is_skipped():
    train, queries = digits()
    module = nn.Sequential(nn.Linear(64, 8, bias=False), nn.ReLU(), nn.Linear(8, 10, bias=False))
    part = {name: values[:6].clone() for name, values in train.items()}
    part["pixels"][2], part["pixels"][4] = 0.0, float("nan")
    fitted = GradientSimilarity().fit(module, split(part, 1), DigitsTask())
    _, scores = fitted.matrix({name: values[:3] for name, values in queries.items()})
    assert (scores[:, 2] == 0).all()
    assert scores[:, 4].isnan().all()
    own = fitted.self_influence()[1]
    assert own[2] == 0
    assert torch.allclose(own[[0, 1, 3, 5]], torch.ones(4))
    row = fitted.scores({name: values[:1] for name, values in queries.items()}, k=50)[0]
    assert (row.examples, row.skipped) == (5, 1)  # k larger than the set is all of it
    assert len(row.helpful) + len(row.harmful) == 4


def test_the_sum_of_all_queries_is_scored_as_one():
    train, queries = digits()
    fitted = GradientSimilarity("dot").fit(trained(), split(train, 250), DigitsTask())
    exact = fitted.matrix(queries)[1].sum(dim=0)
    row = fitted.scores(iter(split(queries, 40)), k=3, aggregate=True, details=False)[0]
    assert row.queries == 200
    values, places = exact.topk(3)
    assert [each.example_id for each in row.helpful] == places.tolist()
    torch.testing.assert_close(torch.tensor([each.score for each in row.helpful]), values, rtol=1e-4, atol=0)


def test_a_layer_that_is_frozen_or_not_asked_for_has_no_part():
    module, task, batch = network(), DigitsTask(), digits()[0]
    module[0].requires_grad_(False)
    frozen = GradientSimilarity("dot").fit(module, split(batch, 500), task)
    last = GradientSimilarity("dot", layers="last").fit(network(), split(batch, 500), task)
    assert (frozen.approximation.layers, frozen.approximation.coverage) == (("2",), 1.0)
    assert torch.equal(frozen.self_influence()[1], last.self_influence()[1])
    module.requires_grad_(False)
    with pytest.raises(ValueError, match="no layer with trainable parameters"):
        GradientSimilarity("dot").fit(module, split(batch, 500), task)
