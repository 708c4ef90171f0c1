"""Attention of every task: rows of the places that are read, both ends of an encoder-decoder, what is refused."""

import pytest
import torch
from every_task import NAMES, bart, made, t5
from tiny import lively, wordpiece

from lightning_interpret import Seq2SeqGeneration
from lightning_interpret.functional.attention.rollout import relevance_map
from lightning_interpret.methods.attention import (
    AttentionFlow,
    AttentionRollout,
    AttentionWeights,
    GradientAttention,
    ValueZeroing,
    attention_maps,
)

METHODS = (AttentionWeights(), AttentionRollout(), AttentionFlow(), GradientAttention(), ValueZeroing())
PLACED = ("TokenClassification", "QuestionAnswering", "CausalGeneration")


def eager(model, parts, **options):
    """What `transformers` itself says that a model attends to, and its output."""
    model.set_attn_implementation("eager")
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "decoder_input_ids", "labels")
    return model(**{k: v for k, v in parts.items() if k in names}, output_attentions=True, **options)


def places_of(name, targets):
    return targets.classes.tolist() if name == "QuestionAnswering" else targets.place.tolist()


@pytest.mark.parametrize("name", PLACED)
@pytest.mark.parametrize("output", ["logit", "log_prob"])
def test_a_target_has_the_rows_of_its_own_places(name, output):
    model, task, batch = made(name, dtype=torch.float64)
    found = AttentionWeights()(model, batch, task, which="gold", output=output)
    prepared = task.prepared(model, batch)
    targets = task.resolve(task.logits(model, prepared), prepared, "gold")
    left = {"position_ids": (batch["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)} if "Causal" in name else {}
    last = eager(model, {k: v for k, v in batch.items() if k != "labels"} | left).attentions[-1].mean(dim=1)
    assert found.example.tolist() == targets.example.tolist()
    for row, (i, places) in enumerate(zip(targets.example.tolist(), places_of(name, targets), strict=True)):
        rows = [last[i, place] for place in places if place >= 0]
        torch.testing.assert_close(found.scores[row], sum(rows) / len(rows), msg=f"{name} {row}")


@pytest.mark.parametrize(
    "name", [name if name in PLACED else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_a_batch_is_its_examples_one_by_one(name):
    model, task, batch = made(name, dtype=torch.float64)
    for method in METHODS:
        if name == "Seq2SeqGeneration" and method.name == "value_zeroing":
            continue
        together = method(model, batch, task)
        for i in range(2):
            alone = method(model, task.take(batch, torch.tensor([i])), task)
            here = together.scores[together.example == i]
            torch.testing.assert_close(here, alone.scores, msg=f"{method.name} {name} {i}")
            assert not here[together.units.padding[together.example == i]].any()


def test_several_labels_of_a_text_have_its_attention_and_relevance_of_their_own():
    model, task, batch = made("MultiLabelClassification")
    weights, relevance = (m(model, batch, task, which="predicted") for m in (AttentionWeights(), GradientAttention()))
    same = weights.scores[weights.example == 0]
    assert len(same) > 1
    torch.testing.assert_close(same[0], same[1])
    assert not torch.allclose(relevance.scores[0], relevance.scores[1])


# Both ends


def ends_of(make, length=3):
    """A model of two ends, its task and a batch of one text, and what `transformers` says that it attends to."""
    model, task = lively(make()).double(), Seq2SeqGeneration(wordpiece())
    ids = torch.tensor([[2, 9, 12, 7, 3][-length:]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([[6, 9, 3]])}
    prepared = task.prepared(model, batch)
    return model, task, batch, prepared


@pytest.mark.parametrize("make", [t5, bart])
@pytest.mark.parametrize("length", [5, 3])  # of 3 the source is as long as the output
def test_a_written_token_has_the_weights_of_its_place_over_both_texts(make, length):
    model, task, batch, prepared = ends_of(make, length)
    found = AttentionWeights()(model, batch, task)
    says = eager(model, prepared)
    cross, own = says.cross_attentions[-1][0].mean(dim=0), says.decoder_attentions[-1][0].mean(dim=0)
    for place in range(3):
        read = found.scores[place]
        torch.testing.assert_close(read[:length], cross[place])
        torch.testing.assert_close(read[length : length + place + 1], own[place, : place + 1])
        assert not read[length + place + 1 :].any()


@pytest.mark.parametrize("make", [t5, bart])
def test_rollout_of_both_ends_is_the_recursion_over_layers_token_by_token(make):
    model, task, batch, prepared = ends_of(make)
    says, source = eager(model, prepared), 3
    encoder = torch.eye(source, dtype=torch.float64)
    for weights in says.encoder_attentions:
        encoder = 0.5 * encoder + 0.5 * weights[0].mean(dim=0) @ encoder
    rows = [torch.cat([torch.zeros(source), torch.eye(3)[i]]).double() for i in range(3)]
    for own, cross in zip(says.decoder_attentions, says.cross_attentions, strict=True):
        mixed = [sum(own[0].mean(dim=0)[i, j] * rows[j] for j in range(3)) for i in range(3)]
        rows = [0.5 * rows[i] + 0.5 * mixed[i] for i in range(3)]
        read = [torch.cat([cross[0].mean(dim=0)[i] @ encoder, torch.zeros(3).double()]) for i in range(3)]
        rows = [0.5 * rows[i] + 0.5 * read[i] for i in range(3)]
    found = AttentionRollout()(model, batch, task)
    for place in range(3):
        torch.testing.assert_close(found.scores[place], rows[place])
    torch.testing.assert_close(found.scores.sum(dim=1), torch.ones(3).double())
    flow = AttentionFlow()(model, batch, task).scores
    assert (flow >= found.scores - 1e-9).all()  # every path that rollout sums takes part in the flow


@pytest.mark.parametrize("make", [t5, bart])
def test_relevance_of_both_ends_follows_the_equations_of_chefer_et_al(make):
    model, task, batch, prepared = ends_of(make)
    says = eager(model, prepared)
    every = [*says.encoder_attentions, *says.decoder_attentions, *says.cross_attentions]
    gold, found = [6, 9, 3], GradientAttention()(model, batch, task, which="gold", output="log_prob")
    for place in range(3):
        score = says.logits[0, place].log_softmax(dim=0)[gold[place]]
        slopes = torch.autograd.grad(score, every, retain_graph=True, allow_unused=True, materialize_grads=True)
        bars = [(w * g).clamp(min=0).mean(dim=1)[0].detach() for w, g in zip(every, slopes, strict=True)]
        first, many = len(says.encoder_attentions), len(says.decoder_attentions)
        ss, qq, qs = torch.eye(3).double(), torch.eye(3).double(), torch.zeros(3, 3).double()
        for bar in bars[:first]:
            ss = ss + bar @ ss
        for own, cross in zip(bars[first : first + many], bars[first + many :], strict=True):
            qq, qs = qq + own @ qq, qs + own @ qs
            qs = qs + barred(qq).T @ cross @ barred(ss)
        wanted = torch.cat([qs[place], qq[place] - torch.eye(3)[place]])
        torch.testing.assert_close(found.scores[place], wanted)


def barred(relevance):
    rest = relevance - torch.eye(len(relevance))
    total = rest.sum(dim=1, keepdim=True)
    return torch.eye(len(relevance)) + torch.where(total > 0, rest / total, 0)


def test_without_cross_attention_the_relevance_map_is_that_of_one_text():
    weights, slopes = torch.rand(2, 1, 2, 4, 4).double(), torch.randn(2, 1, 2, 4, 4).double()
    there = torch.ones(1, 4, dtype=torch.bool)
    plain = relevance_map(list(weights), list(slopes), there)
    assert torch.equal(plain, relevance_map(list(weights), list(slopes), there, source=2, crosses=[False, False]))


def test_a_record_of_both_ends_has_a_map_for_each_attention():
    model, task, batch, prepared = ends_of(t5)
    (row,) = attention_maps(model, batch, task)
    assert [layer.kind for layer in row.layers] == ["encoder", "encoder", "decoder", "cross", "decoder", "cross"]
    assert row.read == "the mean of 3 positions"
    cross = eager(model, prepared).cross_attentions[-1][0].mean(dim=0)
    assert sum(row.token_weights) == pytest.approx(1)
    torch.testing.assert_close(torch.tensor(row.token_weights[:3]).double(), cross.mean(dim=0) / 2)
    shown = torch.tensor(row.layers[-1].weights)
    assert torch.equal(shown[3:, :3], (100 * cross.double()).round().long())
    assert not shown[:3].any()
    assert not shown[:, 3:].any()
    assert 0 <= row.entropy <= 1
    assert 0 <= row.head_agreement <= 1


def test_what_has_no_meaning_for_two_ends_is_refused_before_anything_runs():
    model, task, batch, _ = ends_of(t5)
    for method, layer, said in (
        (ValueZeroing(), None, r"value_zeroing .*Seq2SeqGeneration.*use 'attention_rollout'"),
        (AttentionRollout(inside="encoder"), None, r"`inside='encoder'`: attention_rollout of an encoder-decoder"),
        (AttentionWeights(read="first"), None, r"`read='first'`: attention_weights of an encoder-decoder"),
        (GradientAttention(), "encoder.block.0", r"`layer='encoder.block.0'`: gradient_attention"),
    ):
        with pytest.raises(ValueError, match=said):
            method.check(model, task, [] if layer is None else [layer], "logit")
        with pytest.raises(ValueError, match=said):
            method(model, batch, task, layer=layer)
