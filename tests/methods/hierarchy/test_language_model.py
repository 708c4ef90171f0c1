"""Contexts from a masked language model: how they are drawn, other vocabularies, and the mean over them."""

import inspect
import random
import weakref
from dataclasses import replace

import numpy
import pytest
import torch
from hierarchies import Gated, language_model, task
from purity import assert_same, state_of
from tiny import LONG, ROBERTA_SPECIAL, SHORT, VOCABULARY, batch_of, wordpiece
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lightning_interpret import MaskedLanguageModel, SamplingAndOcclusion


def _asked(sampler, tokenizer, *, rows=1, text=SHORT, blank=(2, 4), seed=0):
    """What a sampler makes of a text with two blanks."""
    batch = batch_of(tokenizer, [text] * rows)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    blanks = torch.zeros_like(ids, dtype=torch.bool)
    blanks[:, list(blank)] = True
    noise = torch.rand(*ids.shape, 2, generator=torch.Generator().manual_seed(seed))
    return ids, blanks, sampler.fill(tokenizer, ids, mask, blanks, noise)


@pytest.mark.parametrize("steps", [None, 1])
def test_blanks_are_filled_and_nothing_else_is_touched(steps):
    ids, blanks, filled = _asked(language_model(steps=steps), wordpiece(), rows=50)
    assert torch.equal(filled[~blanks], ids[~blanks])
    assert len(filled[blanks].unique()) > 3
    assert not set(filled[blanks].tolist()) & set(wordpiece().all_special_ids)


def test_a_blank_is_drawn_from_the_models_distribution():
    sampler, tokenizer = language_model(), wordpiece()
    ids, _, filled = _asked(sampler, tokenizer, rows=4000, text="not good", blank=(2,))
    masked = ids[:1].clone()
    masked[0, 2] = tokenizer.mask_token_id
    with torch.no_grad():
        logits = sampler.model(masked, attention_mask=torch.ones_like(masked)).logits[0, 2]
    logits[tokenizer.all_special_ids] = -torch.inf
    found = torch.bincount(filled[:, 2], minlength=VOCABULARY) / 4000
    assert float((found - logits.softmax(0)).abs().max()) < 0.03  # four standard errors


def test_blanks_are_filled_one_given_the_other():
    """By steps, the second sees the first; at once, neither does."""
    sampler, tokenizer = language_model(), wordpiece()
    seen, forward = [], sampler.model.forward

    def watched(**given):
        seen.append((given["input_ids"] == tokenizer.mask_token_id).sum(dim=1).tolist())
        return forward(**given)

    watched.__signature__ = inspect.signature(forward)
    sampler.model.forward = watched
    _asked(sampler, tokenizer, rows=2, blank=(1, 2, 4))
    assert seen == [[3, 3], [2, 2], [1, 1]]
    seen.clear()
    _asked(language_model(), tokenizer)
    sampler.steps = 1
    _asked(sampler, tokenizer, rows=2, blank=(1, 2, 4))
    assert seen == [[3, 3]]


def test_a_model_and_its_tokenizer_are_loaded_from_a_folder(tmp_path):
    made = language_model()
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    _, _, expected = _asked(made, wordpiece(), rows=5)
    loaded = MaskedLanguageModel(str(tmp_path))
    assert torch.equal(_asked(loaded, wordpiece(), rows=5)[2], expected)
    with pytest.raises(OSError, match="nowhere"):
        _asked(MaskedLanguageModel(str(tmp_path / "nowhere")), wordpiece())


def test_another_vocabulary_is_read_and_written_by_how_its_tokens_are_spelt():
    ours = wordpiece(special=ROBERTA_SPECIAL)  # the same words at other ids
    theirs = wordpiece()
    assert ours.get_vocab() != theirs.get_vocab()
    sampler = language_model(ours)
    ids, blanks, filled = _asked(sampler, theirs, rows=30)
    read, written = sampler._translation(theirs)
    for token, i in theirs.get_vocab().items():
        if i not in theirs.all_special_ids:
            assert ours.convert_ids_to_tokens(int(read[i])) == token
            assert int(written[read[i]]) == i
    assert int(read[theirs.cls_token_id]) == ours.cls_token_id
    assert int(read[theirs.pad_token_id]) == ours.pad_token_id
    assert torch.equal(filled[~blanks], ids[~blanks])
    assert not set(filled[blanks].tolist()) & set(theirs.all_special_ids)


def test_only_what_the_explained_model_has_a_token_for_is_written():
    few = PreTrainedTokenizerFast(
        tokenizer_object=wordpiece().backend_tokenizer.from_str(
            wordpiece().backend_tokenizer.to_str().replace('"dull"', '"grim"')
        ),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    )  # fmt: skip
    _, written = language_model(few)._translation(wordpiece())
    grim = few.get_vocab()["grim"]
    assert int(written[grim]) == -1
    assert int(language_model(few)._translation(wordpiece())[0][wordpiece().get_vocab()["dull"]]) == few.unk_token_id
    assert int((written >= 0).sum()) == VOCABULARY - 6


def _cased(words, *, lower):
    """A tokenizer of whole words, each a token."""
    inner = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(("[PAD]", "[UNK]", "[MASK]", *words))}, "[UNK]")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.normalizer = normalizers.Lowercase() if lower else None
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]")


def test_of_tokens_that_differ_in_capitals_the_same_one_is_read_and_all_are_written():
    """A model of lower case beside a language model that has 'Good' after 'good', and 'Film' alone."""
    theirs, ours = _cased(["good", "film"], lower=True), _cased(["good", "Film", "Good", "GOOD"], lower=False)
    read, written = language_model(ours, vocabulary=7)._translation(theirs)
    assert [ours.convert_ids_to_tokens(int(read[i])) for i in (3, 4)] == ["good", "Film"]
    assert [theirs.convert_ids_to_tokens(int(written[i])) for i in (3, 4, 5, 6)] == ["good", "film", "good", "good"]
    read, written = language_model(theirs, vocabulary=5)._translation(ours)
    assert [theirs.convert_ids_to_tokens(int(i)) for i in read[3:]] == ["good", "film", "good", "good"]
    assert [ours.convert_ids_to_tokens(int(i)) for i in written[3:]] == ["good", "Film"]


def test_a_tokenizer_is_not_forgotten_for_another_one_at_its_address():
    sampler, theirs = language_model(), wordpiece()
    kept = weakref.ref(theirs)
    sampler._translation(theirs)
    del theirs
    assert kept() is not None


def test_padding_on_either_side_and_other_texts_of_a_batch_change_no_draw():
    texts, sampler = [LONG, SHORT], language_model()
    for steps in (None, 2):
        sampler.steps, drawn = steps, []
        for side in ("right", "left"):
            tokenizer = wordpiece(padding_side=side)
            for batch in (batch_of(tokenizer, texts), *(batch_of(tokenizer, [text]) for text in texts)):
                present = batch["attention_mask"] == 1
                blanks = torch.zeros_like(present)
                noise = torch.zeros(*present.shape, 2)
                for row, there in enumerate(present):  # the third token of a text and the following ones, but its last
                    places = there.nonzero().flatten()
                    blanks[row, places[2:-1]] = True
                    noise[row, places] = torch.rand(len(places), 2, generator=torch.Generator().manual_seed(0))
                filled = sampler.fill(tokenizer, batch["input_ids"], batch["attention_mask"], blanks, noise)
                assert torch.equal(filled[~blanks], batch["input_ids"][~blanks])
                drawn.append([row[there].tolist() for row, there in zip(filled, present, strict=True)])
        together, *alone = drawn[:3]
        assert drawn == [together, *alone] * 2
        assert together == [rows[0] for rows in alone]


def test_a_text_that_is_too_long_for_the_language_model_is_refused():
    with pytest.raises(ValueError, match=r"`sampler`: a text has 52 tokens, and the language model reads 40 at most"):
        _asked(language_model(), wordpiece(), text="good " * 50)


def test_without_samples_it_is_plain_occlusion():
    module, spans = Gated(), [[(0, 1), (1, 3), (0, 5)]]
    batch = batch_of(task().tokenizer, [SHORT])
    plain = SamplingAndOcclusion(baseline="pad").score_spans(module, batch, task(), spans)
    none = SamplingAndOcclusion(baseline="pad", sampler=language_model(), n_samples=0)
    assert none.score_spans(module, batch, task(), spans) == plain
    assert "contexts" not in none.measure


@torch.no_grad()
def test_a_score_is_the_mean_over_contexts_of_what_is_lost_without_the_span():
    module, tokenizer, sampler = Gated(), task().tokenizer, language_model()
    method = SamplingAndOcclusion(baseline="pad", sampler=sampler, n_samples=4, radius=1, seed=3)
    kept, fill = [], sampler.fill
    sampler.fill = lambda *args: kept.append((args, fill(*args))) or kept[-1][1]
    batch = batch_of(tokenizer, [LONG])
    (scores,) = method.score_spans(module, batch, task(), [[(4, 6)]], output="logit")
    ((_, _, _, blanks, _), texts) = kept[0]
    assert blanks.shape[0] == 4
    words = [task().units(batch).word_ids[0][t] for t in blanks[0].nonzero().flatten().tolist()]
    assert words == [3, 6]  # within one word of it
    assert len(texts.unique(dim=0)) > 1
    span = torch.tensor([word in (4, 5) for word in task().units(batch).word_ids[0]])
    first = int(module(batch["input_ids"], batch["attention_mask"]).argmax())
    whole = module(texts, torch.ones_like(texts))[:, first]
    less = module(texts.masked_fill(span, 0), torch.ones_like(texts))[:, first]
    assert scores[0] == pytest.approx(float((whole - less).mean()))


def test_draws_hang_on_the_seed_and_on_no_state_outside():
    module, batch, spans = Gated(), batch_of(task().tokenizer, [LONG]), [[(2, 4), (3, 4)]]
    method = SamplingAndOcclusion(baseline="pad", sampler=language_model(), n_samples=3, radius=3)
    before = torch.get_rng_state(), random.getstate(), numpy.random.get_state()
    first = method.score_spans(module, batch, task(), spans)
    torch.rand(3)
    assert method.score_spans(module, batch, task(), spans) == first
    torch.set_rng_state(before[0])
    assert replace(method, seed=1).score_spans(module, batch, task(), spans) != first
    assert_same(before, (torch.get_rng_state(), random.getstate(), numpy.random.get_state()))


def test_the_language_model_is_left_as_it_was():
    sampler, module = language_model(), Gated()
    sampler.model.train()
    before = state_of(sampler.model)
    method = SamplingAndOcclusion(baseline="pad", sampler=sampler, n_samples=2)
    method(module, batch_of(task().tokenizer, [SHORT]), task())
    assert_same(before, state_of(sampler.model), objects=True)


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="needs its tokenizer, too"):
        MaskedLanguageModel(language_model().model)
    with pytest.raises(ValueError, match="`steps=0` must be a whole number"):
        language_model(steps=0)
    with pytest.raises(ValueError, match="`temperature=-1` must be positive"):
        language_model(temperature=-1)
    bare = wordpiece()
    bare.mask_token = None
    with pytest.raises(ValueError, match="has no mask token"):
        _asked(language_model(bare), wordpiece())
