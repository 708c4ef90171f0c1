import pytest
from records import NASTY

from lightning_interpret.report import fonts


@pytest.fixture
def bare_machine(monkeypatch):
    monkeypatch.setattr(fonts, "_installed", lambda: ())


def test_latin_is_drawn_in_the_font_that_is_always_there():
    assert fonts.ranked("Hello, world! [CLS] +0.12 …") == ("",)


@pytest.mark.parametrize("text", NASTY)
def test_any_text_is_drawn(text):
    shown, font = fonts.fit(text, 20, fonts.ranked(text))
    assert font.getlength(shown) >= 0
    assert font.size == 20


def test_the_first_font_misses_fewest_characters():
    for text in ("naïve café", "寿司 good", "Привет", "good 😀"):
        misses = [fonts._missing(name, set(text)) for name in fonts.ranked(text)]
        assert misses == sorted(misses)


def test_characters_that_no_font_draws_are_spelled_out(bare_machine):
    text = "sushi寿\ufe0f"
    shown, font = fonts.fit(text, 21, fonts.ranked(text))
    assert shown == "sushi[U+5BFF]"
    assert font.getname()[0] == "Aileron"


def test_a_character_counts_as_drawn_only_if_its_glyph_is_its_own():
    assert fonts._draws("", "a")
    assert fonts._draws("", " ")
    assert not fonts._draws("", "寿")
    assert not fonts._draws("", "\uffff")
