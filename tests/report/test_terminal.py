import io
import re

import pytest
from records import NASTY, arbitrary_row, row

from lightning_interpret.report.terminal import colour_wanted, display_width, render, table

_COLOUR = re.compile(r"\x1b\[(?:0|2|38;2;\d+;\d+;\d+|48;2;\d+;\d+;\d+)m")


def test_words_that_matter_carry_their_score():
    lines = render(row("The food was awful", scores=[0.1, 1.0, -0.3, -2.1]), colour=False).split("\n")
    assert lines[0] == row("The food was awful", scores=[0.1, 1.0, -0.3, -2.1]).summary()
    assert lines[1] == "[CLS] The food(+1) was awful(-2.1) [SEP]"


def test_colours_are_those_of_the_palette_and_end_with_each_word():
    text = render(row("good bad", scores=[1.0, -1.0]), colour=True)
    assert "\x1b[38;2;255;255;255m\x1b[48;2;0;114;178mgood\x1b[0m" in text
    assert "\x1b[38;2;0;0;0m\x1b[48;2;213;94;0mbad\x1b[0m" in text
    assert "\x1b[2m[CLS]\x1b[0m" in text


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_no_control_character_of_a_token_reaches_the_terminal(seed, colour):
    text = render(arbitrary_row(seed), colour=colour)
    rest = _COLOUR.sub("", text) if colour else text
    assert re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e\ud800-\udfff]", rest) is None


@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("width", [10, 40, 100])
def test_words_are_wrapped_and_none_is_lost(width, colour):
    words = [text for text in NASTY if text.strip() and text.isprintable()]
    text = _COLOUR.sub("", render(row(words, scores=[1.0] * len(words)), colour=colour, width=width))
    body = text.split("\n")[1:-1] if colour else text.split("\n")[1:]
    assert all(display_width(line) <= width for line in body)
    packed = re.sub(r"\s|\(\+1\)|\(\+0\.25\)", "", "".join(body))
    assert packed == re.sub(r"\s", "", "[CLS]" + "".join(words) + "[SEP]")


def test_notes_and_reasons_have_a_line_each():
    shown = render(row(notes=("cut\nhere", "b"), reasons={"steps": "one pass"}), colour=False)
    assert shown.split("\n")[-3:] == ["steps is not given: one pass", "cut↵here", "b"]


@pytest.mark.parametrize(
    ("environment", "tty", "wanted"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"TERM": "dumb"}, True, False),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1", "TERM": "dumb"}, False, True),
        ({"FORCE_COLOR": "0"}, True, False),
    ],
)
def test_colour_wanted(monkeypatch, environment, tty, wanted):
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    stream.isatty = lambda: tty
    assert colour_wanted(stream) is wanted


def test_table_aligns_wide_characters_and_numbers():
    assert table(
        ["name", "寿司", "share"], [["a", 1, "+0.3 %"], ["寿司bar", 2.34567, None], ["c", None, "-12.1 %"]]
    ) == (
        "name      寿司    share\n"
        "───────  ─────  ───────\n"
        "a            1   +0.3 %\n"
        "寿司bar  2.346        –\n"
        "c            –  -12.1 %"
    )


def test_table_keeps_its_rows_whatever_the_cells_hold():
    assert len(table(["a"], [[text] for text in NASTY]).split("\n")) == len(NASTY) + 2
