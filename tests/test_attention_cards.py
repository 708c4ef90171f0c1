"""Records of attention: JSON, card, Markdown, picture, notebook and pages."""

import json
import math

import pytest
from attentions import WEIGHTS, arbitrary, attention, long, of_text
from records import NASTY
from safe_html import plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.cards import card_of
from lightning_interpret.palette import FOR, background
from lightning_interpret.records.attention import AttentionMap, AttentionMapRow
from lightning_interpret.report import evidence_markdown, evidence_picture
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import drift, facts, parse


def finite(row):
    numbers = [*row.token_weights, *(value for layer in row.layers for value in layer.entropy)]
    return all(map(math.isfinite, numbers))


@pytest.mark.parametrize(
    "row", [attention(), long(40, layers=3, heads=2), AttentionMapRow(text="a b"), *map(arbitrary, range(16))]
)
def test_json_both_ways_and_every_report_of_it(row):
    again = AttentionMapRow.from_dict(json.loads(json.dumps(row.to_dict())))
    assert not finite(row) or again == row
    for each in (row, again, row_of(row.to_dict())):
        assert str(each) == str(row) or not finite(row)
        assert evidence_picture.render(each).width == 880
        assert evidence_markdown.render(each)
        assert each._repr_html_()
    (page,) = payloads(row, monitor="m", step=3, probe=0)
    found = facts(parse(page))
    assert found.get("entropy") == row.entropy
    assert "layers" not in found


def test_a_card_says_what_it_knows_and_nothing_of_what_it_does_not():
    row = attention()
    assert row.entropy == pytest.approx((0.8 + 0.375) / 2)
    assert row.head_agreement == pytest.approx(0.625)
    card = card_of(row)
    assert "".join(card.sentence) == (
        "Wrongly said negative (gold positive). "
        "The last attention weighs '[CLS]' most (50%), special tokens 60% in all."
    )
    said = dict(card.facts)
    assert (said["entropy"], said["head agreement"], said["read"]) == ("59%", "62%", "position 0, '[CLS]'")
    assert [maps.title for maps in card.maps] == ["Layers", "Heads of layer 1"]
    assert [bar.number for bar in card.bars[0].bars] == ["80%", "38%"]
    bare = card_of(AttentionMapRow(text="a b"))
    assert (bare.maps, bare.sentence, bare.facts, bare.bars, bare.stated) == ((), (), (), (), ())


def test_the_layers_stand_in_the_text_tab():
    page = markdown_to_safe_html(evidence_markdown.render(attention()))
    found = tables(page)[0]
    assert [row[1] for row in found] == ["80%", "38%"]
    assert [row[3] for row in found] == ["75%", "50%"]
    assert "is no share of the prediction" in plain(page)


def test_a_picture_has_a_panel_a_layer_and_a_head_in_the_colour_of_its_weight():
    colours = {colour: count for count, colour in evidence_picture.render(attention()).getcolors(1 << 24)}
    assert colours[FOR] > 10_000  # the diagonals
    assert colours[background(0.5)] > 10_000
    bare = {colour for _, colour in evidence_picture.render(attention(layers=(), heads=())).getcolors(1 << 24)}
    assert background(0.5) not in bare
    assert evidence_picture.render(long(40)).height < 8000


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>"])
def test_texts_are_never_markup(text):
    row = of_text(text)
    page = markdown_to_safe_html(evidence_markdown.render(row))
    for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1", "<em>"):
        assert mark not in page
    assert "<script" not in row._repr_html_()
    evidence_picture.render(row)
    assert "\x1b" not in str(row)


def test_maps_lose_tokens_and_say_it():
    some = attention().cropped(4)
    assert (some.shown, len(some.heads[0]), len(some.layers[0].weights[0])) == (4, 4, 4)
    assert some.token_weights == WEIGHTS
    assert some.notes[-1] == "Maps of attention show the first 4 of 6 tokens here."
    none = attention().cropped(0)
    assert none.heads == ()
    assert {layer.weights for layer in none.layers} == {None}
    assert card_of(some).maps[0].meaning.endswith("the first 4 tokens")
    assert card_of(none).maps == ()


@pytest.mark.parametrize("limit", [4000, 65536])
@pytest.mark.parametrize("row", [long(40), long(900), of_text("寿" * 20_000)], ids=["large", "long", "wide"])
def test_pages_hold_as_much_as_they_can(row, limit):
    pages = payloads(row, monitor="m", step=3, probe=0, limit=limit)
    assert max(map(len, pages)) <= limit
    found = join(pages)
    assert found.shown < row.shown or limit > 4000
    assert found.token_weights == row.token_weights
    assert found.tokens == row.tokens or "Shortened here" in " ".join(found.notes)


def test_drift_in_the_tab_is_that_of_the_weights():
    now, same, other = (
        {"records": [attention(token_weights=weights).to_dict()]}
        for weights in (WEIGHTS, tuple(2 * w for w in WEIGHTS), (0.0,) * 5 + (1.0,))
    )
    assert drift(now, same) == 0
    assert drift(now, other) > 0.5


def test_texts_of_a_batch_are_rows():
    rows = AttentionMap((attention(), attention()))
    assert rows[1].read == "position 0, '[CLS]'"
    assert str(rows).count("\n\n") == 1
