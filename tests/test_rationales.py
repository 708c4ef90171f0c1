"""Records of what a model says of itself: JSON both ways, and what they add up to."""

import json

import pytest

from lightning_interpret import ConceptsRow, GeneratedRow, RationaleRow, SpansRow
from lightning_interpret.rationales import Concept, Span

TOKENS = {"tokens": ("[CLS]", "not", "good", "at", "all"), "special": (True, False, False, False, False)}
ROWS = [
    RationaleRow(
        example_id=3,
        text="not good at all",
        prediction="negative",
        **TOKENS,
        word_ids=(None, 0, 1, 2, 3),
        words=("not", "good", "at", "all"),
        offsets=((0, 0), (0, 3), (4, 8), (9, 11), (12, 15)),
        selected=(True, True, True, False, True),
        probabilities=(1.0, 0.9, 0.8, float("nan"), 0.7),
        probability=0.8,
        full=0.9,
        complement=0.3,
        gold_rationale=(False, True, True, False, False),
    ),
    SpansRow(**TOKENS, spans=(Span(1, 3, 0.7, "not good", 1.5), Span(4, 5, 0.1)), reasons={"control": "one token"}),
    ConceptsRow(concepts=(Concept("food", 0.9, contribution=1.0, gold=1.0), Concept("price", 0.0, intervened=True))),
    GeneratedRow(explanation="because it is not good", order="jointly", leaks=True),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.kind)
def test_a_row_is_what_its_json_says(row):
    written = json.loads(json.dumps(row.to_dict(), allow_nan=False))
    again = type(row).from_dict({**written, "of_a_later_version": 1})
    assert again.to_dict() == row.to_dict()
    with pytest.raises(ValueError, match=f"kind '{row.kind}'"):
        type(row).from_dict({**written, "kind": "landmarks"})


def test_stretches_are_of_selected_tokens_that_are_not_special():
    assert ROWS[0].runs == ((1, 3), (4, 5))
    assert RationaleRow(selected=(True, True)).runs == ((0, 2),)
    assert RationaleRow().runs == ()


def test_faithfulness_is_a_difference_of_probabilities_or_unknown():
    assert ROWS[0].sufficiency == pytest.approx(0.1)
    assert ROWS[0].comprehensiveness == pytest.approx(0.6)
    assert RationaleRow(probability=0.5).sufficiency is RationaleRow(full=0.5).comprehensiveness is None
