"""Erasure by attention order, held to a plain loop."""

import torch
from attention_toys import pooled

from lightning_interpret.functional.attention.distances import jensen_shannon
from lightning_interpret.functional.attention.erasure import attention_gradient, erased, until_flip, without_one


def by_hand(weights, scores, there, respond, row):
    """How many are erased until the decision flips, one weight after the other."""
    at = torch.tensor([row])
    decided = respond(weights[at], at).argmax()
    order = sorted((i for i in range(weights.shape[-1]) if there[row, i]), key=lambda i: -float(scores[row, i]))
    left = weights[at].clone()
    for count, place in enumerate(order[:-1], 1):
        left[..., place] = 0
        if respond(left / left.sum(dim=-1, keepdim=True), at).argmax() != decided:
            return count
    return 0


def test_what_must_be_erased_is_counted_as_a_plain_loop_counts_it():
    weights, there, respond = pooled(rows=12, length=9, distributions=2, seed=4, scale=6.0)
    gradient = attention_gradient(weights, respond)
    for scores in (weights.mean(dim=1), gradient.mean(dim=1), torch.rand(12, 9), torch.zeros(12, 9)):
        found = until_flip(weights, scores, there, respond, chunk=5)
        assert found.tolist() == [by_hand(weights, scores, there, respond, row) for row in range(12)]
    assert found[0] == 0  # one place: nothing can be erased
    assert 0 < int((found > 0).sum()) < 12


def test_places_that_do_not_count_are_never_erased():
    weights, there, respond = pooled(rows=6, length=7, seed=4, scale=6.0)
    counts = there.clone()
    counts[:, 0] = False
    first = torch.arange(7.0, 0, -1).expand(6, 7)
    seen = []

    def watching(given, rows):
        seen.append(given)
        return respond(given, rows)

    until_flip(weights, first, counts, watching)
    assert all((given[:, 0, 0] > 0).all() for given in seen)


def test_erasing_one_place_renormalises_and_says_whether_the_decision_flips():
    weights, _, respond = pooled(rows=5, length=4, seed=2, scale=6.0)
    rows, top = torch.arange(5), weights[:, 0].argmax(dim=1)
    left = weights.clone()
    left[rows, :, top] = 0
    left = (left / left.sum(dim=-1, keepdim=True)).nan_to_num()
    divergence, flipped = without_one(weights, top, respond)
    before, after = respond(weights, rows), respond(left, rows)
    assert torch.allclose(divergence, jensen_shannon(before, after))
    assert flipped.tolist() == (before.argmax(dim=1) != after.argmax(dim=1)).tolist()
    assert erased(weights[:1], torch.zeros(1, 4, dtype=torch.bool)).abs().sum() == 0  # nothing is left: 0, and no NaN


def test_the_gradient_is_of_the_probability_of_the_decision():
    weights, _, respond = pooled(rows=3, length=4)
    found = attention_gradient(weights, respond, chunk=2)
    rows, step = torch.arange(3), 1e-6
    picked = respond(weights, rows).argmax(dim=1)
    for place in range(4):
        moved = weights.clone()
        moved[:, 0, place] += step
        slope = (respond(moved, rows)[rows, picked] - respond(weights, rows)[rows, picked]) / step
        assert torch.allclose(found[:, 0, place], slope, atol=1e-5)


def test_texts_of_one_place_have_nothing_to_erase_and_no_rows_no_answer():
    weights, there, respond = pooled(rows=4, length=1)
    assert until_flip(weights, weights[:, 0], there, respond).tolist() == [0, 0, 0, 0]
