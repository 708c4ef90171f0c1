"""Influence token by token: sums are the example's score, gradients are autograd's, and a planted fact is found."""

from dataclasses import replace

import pytest
import torch
from several_tasks import HEAD, PLACED, made, parts_of
from tiny import VOCABULARY, wordpiece
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_interpret import (
    CausalGeneration,
    ConjugateGradientInfluence,
    EkfacInfluence,
    ExactInfluence,
    FeatureSimilarity,
    GradientSimilarity,
    ProjectedGradients,
    Rerank,
    SaliencyInfluence,
    TracIn,
)
from lightning_interpret.evidence import InfluenceRow

DOT = GradientSimilarity("dot")
LINEAR = [
    DOT,
    EkfacInfluence(damping=0.1),
    ExactInfluence(layers=[HEAD["continuing"]], damping=0.1),
    ConjugateGradientInfluence(layers=[HEAD["continuing"]], damping=0.1, tolerance=1e-9, max_steps=500),
    ProjectedGradients(dimension=16, damping=0.1),
    TracIn(checkpoints=(), current=True, learning_rates=0.5),
]


def rows_of(kind, method, queries=slice(None)):
    module, task, batch = made(kind)
    fitted = method.fit(module, parts_of(task, batch), task)
    asked = task.take(batch, torch.arange(len(batch["example_id"]))[queries])
    return list(fitted.scores(asked, k=4, per_token=True)), fitted, asked


def assert_law(rows):
    """An example's score is the mean of its scores on the query's tokens, and the sum of what its own tokens carry."""
    for row in rows:
        assert row.by_token
        assert row.loss == pytest.approx(sum(each.loss for each in row.by_token) / len(row.by_token))
        listed = {each.example_id: each for each in (*row.helpful, *row.harmful)}
        assert listed
        for each in listed.values():
            assert each.score == pytest.approx(sum(each.by_token), rel=1e-5, abs=1e-9)
            assert each.score == pytest.approx(sum(each.on_tokens) / len(row.by_token), rel=1e-5, abs=1e-9)
            assert len(each.on_tokens) == len(row.by_token)
            assert len(each.by_token) == len(each.tokens)
        for place, token in enumerate(row.by_token):
            for each in (*token.helpful, *token.harmful):
                if each.example_id in listed:
                    assert each.score == pytest.approx(listed[each.example_id].on_tokens[place], rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("method", LINEAR, ids=lambda method: method.name)
def test_the_scores_of_tokens_make_the_examples_score(method):
    rows, fitted, asked = rows_of("continuing", method)
    assert_law(rows)
    whole = fitted.scores(asked, k=4)
    for row, other in zip(rows, whole, strict=True):
        assert [each.example_id for each in row.helpful] == [each.example_id for each in other.helpful]
        assert [each.score for each in row.helpful] == pytest.approx([each.score for each in other.helpful])
    again = InfluenceRow.from_dict(rows[0].to_dict())
    assert again == replace(rows[0], approximation=again.approximation)


@pytest.mark.parametrize("kind", PLACED)
def test_tokens_of_a_query_are_what_autograd_says_one_at_a_time_and_in_a_batch(kind):
    rows, fitted, asked = rows_of(kind, DOT)
    assert_law(rows)
    _, task, batch = made(kind)
    covered = [p for block in fitted.blocks for p in block.parameters.values()]
    covered = list({id(p): p for p in covered}.values())

    def gradient(values):
        found = torch.autograd.grad(values, covered, retain_graph=True, allow_unused=True)
        pairs = zip(found, covered, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])

    for p in covered:
        p.requires_grad_()
    live = fitted.module
    for number, row in enumerate(rows):
        one = task.take(asked, torch.tensor([number]))
        labels = one["labels"][0]
        logits = task.logits(live, one)[0].log_softmax(dim=-1)
        places = (labels != -100).nonzero().flatten()
        if kind == "continuing":  # scores of the last places, each of the next token
            logits = torch.cat([logits.new_zeros(len(labels) - len(logits), logits.shape[1]), logits])
            logits = logits.roll(1, dims=0)
        assert len(row.by_token) == len(places)
        of_examples = {
            int(batch["example_id"][i]): gradient(task.losses(live, task.take(batch, torch.tensor([i])))[0])
            for i in range(len(batch["example_id"]))
        }
        for token, place in zip(row.by_token, places.tolist(), strict=True):
            loss = -logits[place, labels[place]]
            assert token.loss == pytest.approx(float(loss.detach()))
            own = gradient(loss)
            for each in (*token.helpful, *token.harmful):
                assert each.score == pytest.approx(float(own @ of_examples[each.example_id]), rel=1e-6, abs=1e-9)
    alone = rows_of(kind, DOT, slice(1, 2))[0][0]
    assert [each.token for each in alone.by_token] == [each.token for each in rows[1].by_token]
    for each, other in zip(alone.by_token, rows[1].by_token, strict=True):
        assert [e.score for e in each.helpful] == pytest.approx([e.score for e in other.helpful])


def test_what_is_no_mean_over_tokens_is_refused_by_name():
    module, task, batch = made("continuing")
    for method, what in (
        (GradientSimilarity(), "cosine is no mean over tokens: use `similarity='dot'`"),
        (FeatureSimilarity(), "features are of whole examples"),
        (EkfacInfluence(query_rank=2), "leave `query_rank` out"),
        (Rerank(candidates=2, layers=[HEAD["continuing"]]), "shortlist of its own: use the method of `then` alone"),
        (SaliencyInfluence(influence=DOT), "a saliency is no mean over tokens"),
    ):
        fitted = method.fit(module, parts_of(task, batch), task)
        with pytest.raises(ValueError, match=f"`per_token=True`, but .*{what}"):
            fitted.scores(batch, per_token=True)
    fitted = DOT.fit(module, parts_of(task, batch), task)
    with pytest.raises(ValueError, match="leave out `aggregate`"):
        fitted.scores(batch, per_token=True, aggregate=True)
    both = fitted.scores(batch, per_token=True, aggregate="also")
    assert both[0].by_token
    assert (both[-1].queries, both[-1].by_token) == (len(batch["example_id"]), ())
    module, task, batch = made("labelling")
    with pytest.raises(ValueError, match="MultiLabelClassification has no loss of tokens"):
        DOT.fit(module, parts_of(task, batch), task).scores(batch, per_token=True)


def test_a_planted_fact_is_what_its_token_is_owed_to():
    """One sentence of sixty says `unaffable`; the query, of other words before it, says it too."""
    tokenizer = wordpiece()
    generator = torch.Generator().manual_seed(0)
    words = ["great", "bad", "dull", "good"]
    subjects = ["he is", "the film was", "the play was"]
    drawn = torch.randint(12, (60,), generator=generator).tolist()
    texts = [f"{subjects[i % 3]} very {words[i // 3]} ." for i in drawn]
    planted = 23
    texts[planted] = "he is very unaffable ."
    encoded = tokenizer(texts, padding=True, return_tensors="pt")
    ids, mask = encoded["input_ids"], encoded["attention_mask"]
    batch = {
        "input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100),
        "example_id": torch.arange(60) + 100,
    }  # fmt: skip
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=16, pad_token_id=0)
    module = GPT2LMHeadModel(config).eval()  # without dropout
    task = CausalGeneration(tokenizer)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(40):
        optimizer.zero_grad()
        task.losses(module, batch).mean().backward()
        optimizer.step()
    query = tokenizer(["the play was very unaffable ."], return_tensors="pt")
    asked = {**query, "labels": query["input_ids"].clone(), "example_id": torch.tensor([1])}
    asked = {name: asked[name] for name in ("input_ids", "attention_mask", "labels", "example_id")}
    fitted = EkfacInfluence(damping=1e-3).fit(module, parts_of(task, batch, 30), task)
    (row,) = fitted.scores(asked, k=3, per_token=True)
    spelled = [each.token for each in row.by_token]
    assert row.by_token[spelled.index("##aff")].helpful[0].example_id == 100 + planted
    best = next(each for each in row.helpful if each.example_id == 100 + planted)
    assert best.tokens[best.by_token.index(max(best.by_token))] in ("un", "##aff", "##able")
    usual = spelled.index("very")
    assert row.by_token[usual].helpful[0].example_id != 100 + planted
