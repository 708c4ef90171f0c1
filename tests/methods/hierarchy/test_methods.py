"""Hierarchical methods: what all of them keep to, on models whose spans are known."""

import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hierarchies import METHODS, Constant, Gated, Sum, task
from purity import assert_same, state_of
from tiny import LONG, SHORT, batch_of, classifier, tokenizer_for

from lightning_interpret import Hedge, SamplingAndOcclusion, SequenceClassification, SpanTreeRow
from lightning_interpret.methods.hierarchy import HIERARCHICAL, hierarchical_named
from lightning_interpret.report.presenters import row_of

every = pytest.mark.parametrize("name", METHODS)
TEXTS = ("he is unaffable and not good", SHORT, "bad", "the play was not good")


def _batch(texts=TEXTS, **options):
    return batch_of(task().tokenizer, texts, **options)


def _spans(lengths):
    return [list(combinations(range(length + 1), 2)) for length in lengths]


def _lengths(method, rows):
    return [len(row.units) for row in rows]


@every
@torch.no_grad()
def test_a_sum_of_words_gives_each_span_the_sum_of_its_words_exactly(name):
    """T: of a linear bag of words, whatever the method, with the same baseline."""
    method, module = METHODS[name], Sum()
    trees = method(module, _batch(), task())
    baseline = 0.0 if name == "hedge, signed" else module.embedding.weight[0]
    for text, row, scores in zip(
        TEXTS, trees, method.score_spans(module, _batch(), task(), _spans(_lengths(method, trees))), strict=True
    ):
        batch, names = batch_of(task().tokenizer, [text]), ("bad", "dull", "good")
        logits = module(batch["input_ids"], batch["attention_mask"])[0]
        first, second = logits.argsort(descending=True)[:2]
        assert row.target_name == names[first]
        assert row.target == pytest.approx(float(logits[first] - logits[second]))
        contrast = module.head.weight[first] - module.head.weight[second]
        ids = batch["input_ids"][0, 1:-1]
        each = ((module.embedding(ids) - baseline) @ contrast).tolist()
        owner = [word for word in row.word_ids if word is not None] if row.unit == "word" else range(len(each))
        words = [sum(v for v, of in zip(each, owner, strict=True) if of == w) for w in range(len(row.units))]
        for node in row.nodes:
            assert node.score == pytest.approx(sum(words[node.start : node.end]), abs=1e-9)
        for (start, end), score in zip(_spans([len(words)])[0], scores, strict=True):
            assert score == pytest.approx(sum(words[start:end]), abs=1e-9)
        for node in row.nodes:
            assert node.interaction is None or abs(node.interaction) < 1e-9


@every
@pytest.mark.parametrize("module", [Gated(), Constant()], ids=["gated", "constant"])
def test_the_tree_is_a_tree(name, module):
    method = METHODS[name]
    for row in method(module, _batch(example_ids=[4, 5, 6, 7]), task()):
        length = len(row.units)
        leaves = sorted((node.start, node.end) for node in row.nodes if not node.children)
        assert leaves == [(i, i + 1) for i in range(length)]
        assert row.depth <= length - 1
        assert row.nodes[0].end == length
        for i, node in enumerate(row.nodes):
            assert all(row.nodes[k].parent == i for k in node.children)
            assert (node.interaction is None) == (not node.children)
            assert math.isfinite(node.score)
        again = row_of(row.to_dict())
        assert again == row
        assert row.method == method.name
        assert str(row)
        assert row.forwards > 1


@every
def test_a_batch_is_its_texts_one_by_one_and_padding_is_nothing(name):
    module, method, texts = Gated(), METHODS[name], TEXTS[1:3]
    together = method(module, _batch(texts), task())
    spans = [of[::3] for of in _spans(_lengths(method, together))]
    scores = method.score_spans(module, _batch(texts), task(), spans)
    for i, text in enumerate(texts):
        (alone,) = method(module, batch_of(task().tokenizer, [text]), task())
        assert [(n.start, n.end) for n in alone.nodes] == [(n.start, n.end) for n in together[i].nodes]
        for a, b in zip(alone.nodes, together[i].nodes, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-9)
        assert alone.erased is None or alone.erased == pytest.approx(together[i].erased, abs=1e-9)
        (own,) = method.score_spans(module, batch_of(task().tokenizer, [text]), task(), spans[i : i + 1])
        assert own == pytest.approx(scores[i], abs=1e-9)
        assert alone.tokens == together[i].tokens


@every
def test_passes_of_any_size_give_the_same(name):
    module, method = Gated(), METHODS[name]
    small, batch = replace(method, internal_batch_size=3), _batch(TEXTS[1:3])
    for a, b in zip(method(module, batch, task()), small(module, batch, task()), strict=True):
        assert [(n.start, n.end, n.parent) for n in a.nodes] == [(n.start, n.end, n.parent) for n in b.nodes]
        assert [n.score for n in a.nodes] == pytest.approx([n.score for n in b.nodes], abs=1e-9)


@every
def test_the_module_is_left_as_it_was(name):
    module = Gated().train()
    before = state_of(module)
    METHODS[name](module, _batch(TEXTS[1:3]), task())
    METHODS[name].score_spans(module, _batch(TEXTS[1:3]), task(), [[(0, 1)]] * 2)
    assert_same(before, state_of(module), objects=True)


@every
def test_a_constant_model_is_cut_in_reading_order_and_one_word_is_a_leaf(name):
    rows = METHODS[name](Constant(), _batch(), task())
    for row in rows:
        assert all(node.score == pytest.approx(0.0, abs=1e-6) for node in row.nodes)
    (single,) = [row for row in rows if len(row.units) == 1]
    assert len(single.nodes) == 1
    assert (single.depth, single.erased, single.control) == (0, None, None)
    assert single.reasons["erased"] == "no span has at most half of the text"
    if name == "hedge":
        assert [n.start for n in rows[1].nodes if len(n.children)] == [0, 1, 2, 3]
    if name in ("occlusion", "soc", "acd"):
        assert [n.end for n in rows[1].nodes if len(n.children)] == [5, 4, 3, 2]


class Broken(Sum):
    """A model that says nothing of a text without its first word."""

    def forward(self, ids, mask):
        words = self.embedding(ids)
        gone = (words[:, 1] == 0).all(dim=1, keepdim=True)
        return self.head((words * mask.unsqueeze(-1)).sum(dim=1)).masked_fill(gone, torch.nan)


@every
def test_scores_that_are_no_numbers_have_a_reason_beside_them(name):
    module = Broken()
    with torch.no_grad():
        module.embedding.weight[0] = 0
    (row,) = METHODS[name](module, batch_of(task().tokenizer, [SHORT]), task())
    for what in ("score", "interaction"):
        values = [value for node in row.nodes if (value := getattr(node, what)) is not None]
        assert ("not a finite number" in row.reasons.get(what, "")) == (not all(map(math.isfinite, values))), what
    for what in ("erased", "control"):
        value = getattr(row, what)
        assert (what in row.reasons) == (value is None or not math.isfinite(value)), what
    assert "acd" in name or "score" in row.reasons  # a decomposition leaves no word out
    assert row_of(row.to_dict()).reasons == row.reasons


@every
def test_a_text_without_words_has_no_spans_and_says_why(name):
    (row,) = METHODS[name](Sum(), batch_of(task().tokenizer, [""]), task())
    assert row.nodes == ()
    assert "no tokens of its own" in row.notes[0]
    assert METHODS[name].score_spans(Sum(), batch_of(task().tokenizer, [""]), task(), [[]]) == ((),)
    assert str(row)


def test_what_erasing_the_foremost_span_loses_stands_beside_random_spans_as_long():
    module, method = Gated(), Hedge(baseline="pad")
    (row,) = method(module, batch_of(task().tokenizer, [LONG]), task())
    foremost, length = row.foremost, len(row.units)
    size = foremost.end - foremost.start
    others = [(s, s + size) for s in range(length - size + 1) if s != foremost.start]
    (lost,) = SamplingAndOcclusion(baseline="pad").score_spans(
        module, batch_of(task().tokenizer, [LONG]), task(), [[(foremost.start, foremost.end), *others]]
    )
    assert row.erased == pytest.approx(lost[0])
    if len(others) <= 8:
        assert row.control == pytest.approx(sum(lost[1:]) / len(others))
    assert min(lost[1:]) <= row.control <= max(lost[1:])


@torch.no_grad()
def test_the_score_of_a_hedge_span_is_the_margin_with_it_alone_less_that_of_nothing():
    module, ids = Gated(), batch_of(task().tokenizer, [SHORT])
    (scores,) = Hedge(baseline="pad").score_spans(module, ids, task(), [[(1, 3)]])
    logits = module(ids["input_ids"], ids["attention_mask"])[0]
    first, second = logits.argsort(descending=True)[:2]
    # [CLS] the play ##er was great . [SEP]: words 1 and 2 are 'player was'
    alone = torch.tensor([[2, 0, *ids["input_ids"][0, 2:5].tolist(), 0, 0, 3]])
    nothing = torch.tensor([[2, *[0] * 6, 3]])
    (a, b) = (module(x, torch.ones_like(x))[0] for x in (alone, nothing))
    assert scores[0] == pytest.approx(float((a[first] - a[second]) - (b[first] - b[second])))


def test_deleted_tokens_are_gone_and_the_text_closes_up():
    module, text = Gated(), batch_of(task().tokenizer, [SHORT])
    (found,) = SamplingAndOcclusion(baseline="delete").score_spans(module, text, task(), [[(1, 3)]], output="logit")
    shorter = batch_of(task().tokenizer, ["the great ."])
    first = int(module(text["input_ids"], text["attention_mask"]).argmax())
    less = module(shorter["input_ids"], shorter["attention_mask"])[0, first]
    assert found[0] == pytest.approx(float(module(text["input_ids"], text["attention_mask"])[0, first] - less))
    (row,) = Hedge(baseline="delete")(module, text, task())
    assert row.baseline == "delete"


@pytest.mark.parametrize("model", ["bert", "gpt2", "llama", "roberta"])
@every
def test_transformers_are_served_in_single_precision(model, name):
    module, of = classifier(model), SequenceClassification(tokenizer_for(model), ["bad", "dull", "good"])
    for row in METHODS[name](module, batch_of(of.tokenizer, ["not very good"]), of):
        assert isinstance(row, SpanTreeRow)
        assert all(math.isfinite(node.score) for node in row.nodes)


def test_arguments_that_cannot_be_served_are_refused_by_name():
    module = Sum()
    with pytest.raises(ValueError, match="`unit='sentence'` does not exist"):
        Hedge(unit="sentence")
    with pytest.raises(ValueError, match="`window=7` must be a whole number from 0 to 4"):
        Hedge(window=7)
    with pytest.raises(ValueError, match="`percentile=200` must be from 0 to 100"):
        SamplingAndOcclusion(percentile=200)
    for options in ({"n_samples": 3}, {"radius": 5}, {"seed": 1}):
        (said,) = options.items()
        with pytest.raises(ValueError, match=r"`{}={}` is of contexts, which are drawn from a language".format(*said)):
            SamplingAndOcclusion(**options)
    with pytest.raises(ValueError, match="takes one baseline, and no distribution"):
        Hedge(baseline="distribution")
    with pytest.raises(ValueError, match=r"\(2, 2\) is no span of text 0, which has 5 words"):
        Hedge().score_spans(module, batch_of(task().tokenizer, [SHORT]), task(), [[(2, 2)]])
    for span in (2, (0,), ("0", "1"), (0.0, 1.0), None):
        with pytest.raises(ValueError, match=r"`spans`: .* is no span of text 0, which has 5 words: give"):
            Hedge().score_spans(module, batch_of(task().tokenizer, [SHORT]), task(), [[span]])
    with pytest.raises(ValueError, match=r"`spans` are of 2 texts, but the batch has 1"):
        Hedge().score_spans(module, batch_of(task().tokenizer, [SHORT]), task(), [[], []])
    with pytest.raises(ValueError, match=r"`method='hedgehog'` does not exist\. Did you mean 'hedge'"):
        hierarchical_named("hedgehog")
    assert {"hedge", "acd", "soc"} <= set(HIERARCHICAL)
    assert hierarchical_named("acd").name == "acd"
