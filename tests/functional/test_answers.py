import pytest
import torch
from torchmetrics.text import SQuAD

from lightning_interpret.functional.answers import best_spans, exact_match, normalised, null_places, token_f1

PAIRS = [
    ("the Denver Broncos!", ["Denver Broncos"], 1, 1.0),
    ("Denver", ["Denver Broncos", "The Broncos"], 0, 2 / 3),
    ("a b b c", ["b b d"], 0, 2 * 2 / (3 + 3)),  # "a" is an article
    ("", ["Denver"], 0, 0.0),
    ("Denver", [], 0, 0.0),
    ("", [], 1, 1.0),
    ("The.", ["the"], 1, 1.0),  # nothing is left of either: no answer, and none is right
    ("308 points", ["308"], 0, 2 / 3),
]


@pytest.mark.parametrize(("said", "gold", "exact", "f1"), PAIRS)
def test_answers_are_compared_as_squad_does(said, gold, exact, f1):
    assert exact_match(said, gold) == exact
    assert token_f1(said, gold) == pytest.approx(f1)
    judge = SQuAD()
    answers = {"text": gold or [""], "answer_start": [0] * max(1, len(gold))}
    judge.update([{"prediction_text": said, "id": "1"}], [{"answers": answers, "id": "1"}])
    found = judge.compute()
    assert found["exact_match"].item() == pytest.approx(100 * exact)
    assert found["f1"].item() == pytest.approx(100 * f1, abs=1e-4)


def test_an_answer_is_normalised():
    assert normalised(" The  Panthers' 24-year, an END ") == "panthers 24year end"


def slow_best(start, end, allowed, limit):
    found = [
        (start[i] + end[j], i, j)
        for i in range(len(start))
        for j in range(len(start))
        if allowed[i] and allowed[j] and i <= j < i + limit
    ]
    return max(found, default=(-torch.inf, 0, 0))


@pytest.mark.parametrize("limit", [1, 3, 30])
def test_the_best_span_is_that_of_a_search_of_all(limit):
    generator = torch.Generator().manual_seed(limit)
    start, end = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    allowed = torch.rand(6, 9, generator=generator) > 0.4
    allowed[5] = False
    first, last, score = best_spans(start, end, allowed, limit)
    for row in range(6):
        best, i, j = slow_best(start[row].tolist(), end[row].tolist(), allowed[row].tolist(), limit)
        assert score[row].item() == pytest.approx(best)
        if row < 5:
            assert (first[row].item(), last[row].item()) == (i, j)
    assert score[5] == -torch.inf


def test_no_answer_stands_at_the_first_token_wherever_the_padding_is():
    assert null_places(torch.tensor([[1, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 1]])).tolist() == [0, 1, 2]
