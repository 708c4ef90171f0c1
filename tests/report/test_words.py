import math
import unicodedata

import pytest
from records import NASTY, arbitrary_row, row

from lightning_interpret.report.words import scale, shades
from lightning_interpret.texts import printable, signed


@pytest.mark.parametrize("seed", range(15))
def test_shades_are_printable_and_bounded(seed):
    shown = shades(arbitrary_row(seed))
    assert all(-1 <= word.strength <= 1 for word in shown)
    assert all(word.text.strip() for word in shown)
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not {c for word in shown for c in word.text if unicodedata.category(c) in hidden} - {"\u200c", "\u200d"}


@pytest.mark.parametrize("text", NASTY)
def test_printable_text_is_left_alone(text):
    assert printable(printable(text)) == printable(text)
    assert printable("naïve 寿司 😀 مرحبا") == "naïve 寿司 😀 مرحبا"


def test_escape_codes_and_bidi_overrides_are_spelled_out():
    assert printable("\x1b[31m\n\t\u202e\ud800") == "\\x1b[31m↵⇥\\u202e\\ud800"


def test_a_large_special_token_does_not_pale_the_words():
    shown = shades(row("good bad", scores=[1.0, -0.5], special=(True, False, False, True)))
    assert [word.strength for word in shown] == [0.0, 1.0, -0.5, 0.25]
    outshone = row("good bad", scores=[0.1, -0.05])  # [SEP] has 0.25
    assert scale(outshone.merged()) == 0.1
    assert shades(outshone)[-1].strength == 1.0


def test_the_special_tokens_set_the_scale_where_every_word_is_zero():
    assert scale(row("good bad", scores=[0.0, 0.0]).merged()) == 0.25


def test_numbers_that_are_not_finite_have_no_colour_but_matter():
    nan, inf, ugly = shades(row("good bad ugly", scores=[math.nan, math.inf, -2.0]))[1:-1]
    assert (nan.strength, inf.strength, ugly.strength) == (0.0, 0.0, -1.0)
    assert nan.matters(0.5)
    assert inf.matters(0.5)


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (-2.13, "-2.1"),
        (9.97, "+10"),
        (134.6, "+135"),
        (-0.000123, "-0.00012"),
        (2e6, "+2e+06"),
    ],
)
def test_signed(score, text):
    assert signed(score) == text
