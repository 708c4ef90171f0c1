"""Spans: their vectors and weights, held to a loop over all spans in double precision."""

import math

import pytest
import torch

from lightning_interpret.functional.spans import (
    sharpness,
    span_states,
    span_weights,
    spans_within,
    token_weights,
    top_spans,
    windows,
)

WIDTH = 3
TOKENS = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]]).bool()


def drawn(*sizes, seed=0):
    return torch.randn(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


STATES = drawn(4, 6, 5)
WEIGHTS = [drawn(5, 5, seed=seed) / 2 for seed in (1, 2, 3, 4)]  # W1 to W4 of the paper
BIAS, QUERY = drawn(5, seed=5), drawn(5, seed=6)


def by_loop(row, states=STATES, tokens=TOKENS, width=WIDTH):
    """Return the spans of a row, as the paper writes them down: {(start, end): (vector, score)}."""
    found = {}
    for i in range(states.shape[1]):
        for j in range(i, min(i + width, states.shape[1])):
            if all(bool(tokens[row, place]) for place in range(i, j + 1)):
                a, b = states[row, i], states[row, j]
                terms = [a, b, a - b, a * b]
                vector = torch.tanh(sum(w @ term for w, term in zip(WEIGHTS, terms, strict=True)) + BIAS)
                found[i, j + 1] = vector, float(vector @ QUERY)
    return found


def pooled(states=STATES, tokens=TOKENS, width=WIDTH):
    first, second, third, fourth = WEIGHTS
    spans = span_states(states, first + third, second - third, fourth, BIAS, width)
    weights = span_weights(spans @ QUERY, spans_within(tokens, width))
    return torch.einsum("btw,btwd->bd", weights, spans), weights


def test_vectors_and_weights_are_those_of_a_loop_over_all_spans():
    vectors, weights = pooled()
    for row in range(4):
        found = by_loop(row)
        total = sum(math.exp(score) for _, score in found.values())
        for i in range(6):
            for k in range(WIDTH):
                expected = math.exp(found[i, i + k + 1][1]) / total if (i, i + k + 1) in found else 0.0
                assert float(weights[row, i, k]) == pytest.approx(expected, rel=1e-12, abs=0)
        mean = sum((vector * math.exp(score) / total for vector, score in found.values()), torch.zeros(5).double())
        assert torch.allclose(vectors[row], mean, rtol=0, atol=1e-12)
    assert [len(by_loop(row)) for row in range(4)] == spans_within(TOKENS, WIDTH).flatten(1).sum(dim=1).tolist()


def test_a_batch_is_its_rows_and_padding_changes_nothing():
    vectors, _ = pooled()
    for row in range(4):
        alone, own = pooled(STATES[row : row + 1], TOKENS[row : row + 1])
        assert torch.allclose(alone[0], vectors[row], rtol=0, atol=1e-14)
        for before, after in ((0, 4), (3, 0)):
            junk = drawn(1, 10, 5, seed=9)
            junk[:, before : 10 - after][:, :6] = STATES[row : row + 1]
            where = torch.zeros(1, 10, dtype=torch.bool)
            where[:, before : before + 6] = TOKENS[row]
            padded, shares = pooled(junk, where)
            assert torch.allclose(padded[0], vectors[row], rtol=0, atol=1e-14)
            assert torch.allclose(shares[0, before : before + 6], own[0], rtol=0, atol=1e-14)


def test_gradients_are_those_of_finite_differences_also_in_rows_without_spans():
    def vectors(states):
        return pooled(states.masked_fill(~TOKENS[..., None], 0.0))[0]

    states = STATES.clone().requires_grad_()
    assert torch.autograd.gradcheck(vectors, states)
    (gradient,) = torch.autograd.grad(vectors(states).sum(), states)
    assert (gradient[~TOKENS] == 0).all()
    assert (gradient[TOKENS] != 0).all()


def test_weights_are_exactly_0_outside_and_1_together():
    scores = torch.full((3, 4, 2), 3e4).half()
    scores[0, 1, 0] = -3e4
    spans = torch.ones(3, 4, 2, dtype=torch.bool)
    spans[1, 2:], spans[2] = False, False
    weights = span_weights(scores, spans)
    assert weights.dtype == torch.float32
    assert weights.flatten(1).sum(dim=1).tolist() == pytest.approx([1, 1, 0], abs=1e-6)
    assert (weights[~spans] == 0).all()
    assert span_weights(scores.double(), spans).dtype == torch.float64


def test_a_width_beyond_the_text_is_the_text():
    assert torch.allclose(pooled(width=6)[0], pooled(width=20)[0], rtol=0, atol=1e-14)
    assert windows(STATES, 2).shape == (4, 6, 2, 5)
    assert torch.equal(windows(STATES, 2)[:, :-1, 1], STATES[:, 1:])
    assert (windows(STATES, 2)[:, -1, 1] == 0).all()


def test_a_token_has_the_weights_of_the_spans_that_it_is_in():
    _, weights = pooled()
    expected = torch.zeros(4, 6, dtype=torch.float64)
    for row in range(4):
        for i, j in by_loop(row):
            expected[row, i:j] += weights[row, i, j - i - 1]
    assert torch.allclose(token_weights(weights), expected, rtol=0, atol=1e-14)
    assert (token_weights(weights)[~TOKENS] == 0).all()


def test_the_foremost_spans_come_first_and_what_is_none_last():
    _, weights = pooled()
    spans = spans_within(TOKENS, WIDTH)
    values, starts, ends = top_spans(weights, spans, 4)
    for row in range(4):
        found = sorted(by_loop(row).items(), key=lambda item: -item[1][1])[:4]
        shown = [(int(a), int(b)) for v, a, b in zip(values[row], starts[row], ends[row], strict=True) if v >= 0]
        assert shown == [place for place, _ in found]
    assert top_spans(weights, spans, 99)[0].shape == (4, 18)


def test_sharpness_is_1_where_one_span_has_all():
    weights = torch.zeros(2, 3, 2)
    weights[0, 1, 1], weights[1, :2] = 1.0, 0.25
    assert sharpness(weights).tolist() == [1.0, 0.25]
