"""Contextual decomposition as an attribution: words of a sum, what is in none of them, words of several tokens."""

import pytest
import torch
from hierarchies import Gated, Sum, task
from tiny import SHORT, batch_of, classifier, tokenizer_for

from lightning_interpret import (
    AgglomerativeContextualDecomposition,
    ContextualDecomposition,
    Occlusion,
    SequenceClassification,
)
from lightning_interpret.functional.hierarchy.contextual import ContextualError
from lightning_interpret.functional.relevance import RelevanceError

LONG = "he is unaffable and not good"
TEXTS = (LONG, SHORT)


def _batch(texts=TEXTS):
    return batch_of(task().tokenizer, texts)


@pytest.mark.parametrize("unit", ["token", "word"])
def test_of_a_sum_of_words_it_is_occlusion_and_complete(unit):
    found = ContextualDecomposition(baseline="pad", unit=unit)(Sum(), _batch(), task())
    expected = Occlusion(baseline="pad", unit=unit)(Sum(), _batch(), task())
    assert torch.allclose(found.scores.double(), expected.scores.double(), atol=1e-9)
    assert float(found.error.abs().max()) < 1e-9


def test_its_target_is_what_the_whole_text_contributes_and_its_error_what_is_in_no_word():
    module = Gated()
    found = ContextualDecomposition(baseline="pad")(module, _batch(), task())
    target = found.target - found.baseline_target  # of a model without normalisation
    assert torch.allclose(found.attribution_target, target, atol=1e-9)
    assert torch.allclose(found.error, found.scores.double().sum(dim=1) - target, atol=1e-9)
    assert float(found.error.abs().min()) > 1e-3
    assert "four states" in found[0].reasons["steps"]
    assert (found.scores[1, 8:] == 0).all()  # padding, and the special token before it
    shared = ContextualDecomposition(baseline="pad", cross="shared")(module, _batch(), task())
    assert not torch.allclose(shared.scores, found.scores)


def test_padding_and_passes_change_nothing():
    module, method = Gated(), ContextualDecomposition()
    found = method(module, _batch(), task())
    small = ContextualDecomposition(internal_batch_size=2)(module, _batch(), task())
    assert torch.allclose(found.scores, small.scores, atol=1e-12)
    for i, text in enumerate(TEXTS):
        alone = method(module, _batch([text]), task())
        assert torch.allclose(alone.scores[0], found.scores[i, : alone.scores.shape[1]], atol=1e-12)


def test_spans_are_scored_as_by_the_method_that_makes_trees_of_them():
    spans = [[(0, 2), (1, 3)], [(0, 1)]]
    options = {"baseline": "pad", "unit": "word", "cross": "shared"}
    found = ContextualDecomposition(**options).score_spans(Gated(), _batch(), task(), spans)
    assert found == AgglomerativeContextualDecomposition(**options).score_spans(Gated(), _batch(), task(), spans)
    words = ContextualDecomposition(**options)(Gated(), _batch([LONG]), task(), output="margin")[0].merged()
    (scores,) = ContextualDecomposition(**options).score_spans(
        Gated(), _batch([LONG]), task(), [[(i, i + 1) for i in range(6)]]
    )
    assert [word.score for word in words if not word.special] == pytest.approx(list(scores), abs=1e-6)


@pytest.mark.parametrize("layer", ["bert.embeddings.word_embeddings", "bert.encoder.layer.0"])
def test_a_transformer_at_any_layer(layer):
    module, of = classifier("bert"), SequenceClassification(tokenizer_for("bert"))
    found = ContextualDecomposition(baseline="pad")(module, batch_of(of.tokenizer, TEXTS), of, layer=layer)
    assert found.layer == layer
    assert bool(found.scores.isfinite().all())
    assert float(found.scores.abs().max()) > 1e-3


def test_an_operation_without_a_rule_is_refused_by_name():
    class Fourier(Sum):
        def forward(self, ids, mask):
            return torch.fft.fft(super().forward(ids, mask)).real

    with pytest.raises(ContextualError, match="no rule for `fft_fft`"):
        AgglomerativeContextualDecomposition()(Fourier(), _batch([SHORT]), task())
    assert not issubclass(ContextualError, RelevanceError)
    with pytest.raises(ValueError, match="`cross='half'` does not exist"):
        ContextualDecomposition(cross="half")
    with pytest.raises(ValueError, match="`baseline='delete'`: a decomposition is of the text as it is"):
        AgglomerativeContextualDecomposition(baseline="delete")
