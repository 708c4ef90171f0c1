"""The card of a comparison: what is shown everywhere, JSON both ways, and pages that fit."""

import json

import pytest
from records import NASTY
from trust_toys import comparison, method

from lightning_interpret.cards import card_of
from lightning_interpret.cards.trust import cells
from lightning_interpret.records.trust import Drill, TrustedMethod, TrustRow
from lightning_interpret.report.interpret_summary import payloads
from lightning_interpret.report.presenters import presenter_of, row_of


def test_the_card_says_what_is_recommended_and_puts_every_figure_beside_the_random_order():
    card = card_of(comparison())
    assert (card.title, card.text) == ("integrated_gradients is recommended", "3 methods on 8 probes")
    assert "".join(card.sentence) == "integrated_gradients is recommended, of 2 that could be."
    methods, agreement, drill = card.bars
    assert [(bar.name, bar.number) for bar in methods.bars] == [
        ("integrated_gradients", "+0.100"), ("gradient", "+0.100"), ("expected_gradients", "failed"),
        ("random order", "–"),
    ]  # fmt: skip
    assert dict(methods.bars[0].beside)["error"] == "0.10%"
    assert dict(methods.bars[1].beside)["error"] == "ranks only"
    assert dict(methods.bars[3].beside) == {"compr.": "+0.100", "suff.": "+0.300"}
    assert agreement.bars[0].beside == (("top in common", "60%"),)
    assert [bar.number for bar in drill.bars] == ["100%", "50%", "10%"]
    assert "It is right of 80.0% of unseen rows, of 50.0% with the cue in each." in drill.rest
    assert "expected_gradients failed: ValueError: no references" in card.notes
    assert "error of gradient is not given: ranks only: a rate of change" in card.notes


def test_none_recommended_and_a_drill_that_says_nothing_are_told():
    drill = Drill("tuesday", "good", 0.1, 50, 0.8, 0.79, 0, 20, invalid="the model does not use the cue")
    card = card_of(comparison(recommended=None, drill=drill, because=("None can be.",)))
    assert card.title == "No method is recommended"
    assert card.bars[-1].bars == ()
    assert "The drill says nothing of the methods: the model does not use the cue." in card.bars[-1].rest


def test_a_table_has_a_line_a_method_and_no_empty_column():
    headings, lines = cells(comparison())
    assert headings[:3] == ["method", "gain", "error"]
    assert "AUPRC" not in headings
    assert [line[0] for line in lines] == ["integrated_gradients", "gradient", "expected_gradients", "random order"]
    assert all(len(line) == len(headings) for line in lines)


@pytest.mark.parametrize("row", [comparison(), comparison(drill=None, control=None, agreement=()), TrustRow()])
def test_a_record_is_json_both_ways_and_shown_in_every_place(row):
    assert row_of(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row
    shown = presenter_of("trust")
    assert shown.picture(row).width == 880
    assert shown.markdown(row)
    assert str(row)
    assert "<b>" in row._repr_html_()


def test_texts_of_any_kind_are_literal_and_many_methods_fit_on_pages():
    nasty = comparison(because=tuple(NASTY), methods=tuple(TrustedMethod(text, failed=text) for text in NASTY))
    assert "<b>x" not in nasty._repr_html_().replace("<b>", "", 1) or "&lt;b&gt;x" in nasty._repr_html_()
    assert presenter_of("trust").picture(nasty)
    many = comparison(methods=tuple(method(f"method {i}") for i in range(300)))
    pages = list(payloads(many, monitor="trust", step=1, probe=0))
    assert all(len(page) <= 64 * 1024 for page in pages)


def test_what_the_tab_follows_is_of_the_method_that_is_recommended():
    (record,) = presenter_of("trust").records(comparison(), lambda record, pages: True)
    assert (record["best_gain"], record["best_error"], record["mean_agreement"]) == (0.1, 0.001, 0.4)
    (record,) = presenter_of("trust").records(comparison(recommended=None, agreement=()), lambda record, pages: True)
    assert (record["best_gain"], record["mean_agreement"]) == (None, None)
