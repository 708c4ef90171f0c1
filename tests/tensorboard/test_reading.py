"""How the Interpret tab reads tokens as words, run as the JavaScript that it is: as the other reports do."""

import boards
import pytest
from records import NASTY
from target_records import answer, arabic, arbitrary, chinese, grid

from lightning_interpret.records.units import units_of
from lightning_interpret.texts import readable

pytestmark = boards.needs_browser


@pytest.mark.parametrize("row", [grid(), arabic(), chinese(), answer(), *map(arbitrary, range(12))])
def test_words_are_those_of_the_record(functions, row):
    found = functions("reading.js")("wordsOf", row.to_dict())
    fields = ("text", "start", "end", "special", "segment", "space")
    assert [[unit[name] for name in fields] for unit in found] == [
        [getattr(unit, name) for name in fields] for unit in units_of(row)
    ]


@pytest.mark.parametrize("text", ["Ġthe", "▁un", "##ing", "a</w>", "Ġ", "Ċ", "cafÃ©", "café", "åľ¨", "##", "", *NASTY])
def test_tokens_are_read_alike(functions, text):
    assert functions("reading.js")("readable", text) == readable(text)


@pytest.mark.parametrize(
    ("token", "shown"), [("Ġthe", "the"), ("cafÃ©", "café"), ("café", "café"), ("åľ¨", "在"), ("▁", "␣")]
)
def test_tokens_are_read_as_words(token, shown):
    assert readable(token) == shown


def test_a_long_text_is_narrowed_to_what_matters_and_no_word_is_lost(functions):
    fields = {"special": False, "space": True}
    words = [{"index": i, "text": str(i), "start": i, "end": i + 1, "segment": int(i > 5)} | fields for i in range(30)]
    target = {"scores": [1.0 if i == 20 else 0.5 if i == 2 else 0.0 for i in range(30)], "span": [25, 26]}
    found = functions("reading.js")("mattering", words, [target], 12, 1)
    kept = [word["text"] for word in found if not word.get("left")]
    assert {"20", "2", "25", "24", "26"} <= set(kept)
    assert len(kept) <= 13
    assert sum(word.get("left", 1) for word in found) == 30
    assert functions("reading.js")("mattering", words, [target], 30, 1) == words
