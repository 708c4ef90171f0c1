"""Self-explanations as Markdown, as a picture, on pages of the Interpret tab, and in the file of records."""

import json

import pytest
from explained import KINDS, arbitrary, concepts, flags, generated, of_text, of_tokens, rationale, spans
from records import NASTY
from safe_html import capped, plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.cards import card_of
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.rationales import Concept
from lightning_interpret.report import evidence_markdown, evidence_picture, frame, jsonl
from lightning_interpret.report.explained_picture import _WASH
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import drift, facts, parse


def _page(row):
    return markdown_to_safe_html(evidence_markdown.render(row))


def _payload(row, **options):
    (page,) = payloads(row, monitor="m", step=3, probe=0, **options)
    return page


def test_what_was_selected_is_bold_and_what_people_selected_is_slanted():
    page = _page(rationale())
    assert "<strong><em>bad film</em></strong>" in page
    assert "<em>Not a</em> " in page
    assert "plot is <strong>thin</strong>, but" in page
    assert "Bold: selected; slanted: selected by people." in plain(page)
    assert "People selected: Not a bad film" in plain(page)
    assert "<em>" not in _page(rationale(gold_rationale=None))
    assert tables(page)[0][2] == ["the rest alone", "35%", "🟦🟦"]


def test_bars_quotations_and_strips_stand_in_the_text():
    (found,) = tables(_page(spans()))
    assert found[0] == ["bad film", "55%", "🟦🟦🟦", "3–4", "+1.4"]
    assert "128 more spans share 25%." in plain(_page(spans()))
    assert "Tokens, 🟦 weight of the spans it is in: [CLS] Not 🟦🟦 +0.3" in plain(_page(spans()))
    (found,) = tables(_page(concepts()))
    assert found[1] == ["acting", "-0.6", "🟧🟧", "0.8", "80%", "0 ✗"]
    page = _page(generated())
    assert page.count("<blockquote>") == 3
    said = plain(page)
    assert said.index("The plot is thin, so the film") < said.index("'Not a bad film' is praise") < said.index("Query")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>"])
def test_markdown_is_literal_wherever_a_text_stands(kind, text):
    page = _page(of_text(KINDS[kind], text))
    for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1"):
        assert mark not in page
    assert page.count("<em>") == (3 if kind == "rationale" else 0)  # two words, and what it means
    if kind == "concepts":
        assert len(text) > 32 or tables(page)[0][0][0].split() == (capped(text).split() or ["␣"])


def _colours(picture):
    return {colour: count for count, colour in picture.getcolors(1 << 24)}


def test_a_selection_is_seen_and_numbers_have_bars_in_the_colour_of_their_sign():
    found, none = (_colours(evidence_picture.render(row)) for row in (rationale(), rationale(selected=flags())))
    assert found[_WASH] > 2000
    assert _WASH not in none
    assert _colours(evidence_picture.render(spans(token_weights=())))[FOR] > 500
    signs = _colours(evidence_picture.render(concepts()))
    assert min(signs[FOR], signs[AGAINST]) > 300
    assert AGAINST not in _colours(evidence_picture.render(concepts(concepts=(Concept("a", 1.0, contribution=1.0),))))
    assert _colours(evidence_picture.render(generated()))[FOR] > 200


def test_a_text_that_is_read_from_the_right_starts_at_the_right():
    words = ["مرحبا", "هذا"]
    row = rationale(**of_tokens(" ".join(words), words), selected=flags(0, words=words), gold_rationale=None)
    picture = evidence_picture.render(row)
    half = picture.width // 2
    left, right = (_colours(picture.crop((x, 0, x + half, picture.height))) for x in (0, half))
    assert _WASH in right
    assert _WASH not in left


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [10, 440])
@pytest.mark.parametrize("text", ["".join(NASTY), "字" * 10_000])
def test_nothing_is_drawn_beyond_the_margins(kind, width, text):
    picture = evidence_picture.render(of_text(KINDS[kind], text), width=width)
    assert picture.height < 5000
    side = 2 * frame.MARGIN - 6  # antialiasing, thick strokes, and glyphs that hang over
    for left in (0, picture.width - side):
        assert set(_colours(picture.crop((left, 0, left + side, picture.height)))) == {(255, 255, 255)}


def test_beside_the_record_stands_what_the_tab_follows():
    known = facts(parse(_payload(rationale())))
    assert known["sufficiency"] == pytest.approx(-0.124)
    assert known["comprehensiveness"] == pytest.approx(0.46)
    assert (known["rate"], known["budget"]) == (pytest.approx(3 / 19), 0.2)
    known = facts(parse(_payload(spans())))
    assert (known["weight"], known["erased"], known["control"]) == (0.55, 1.4, 0.05)
    known = facts(parse(_payload(concepts())))
    assert (known["listed"], known["concept_accuracy"]) == ("plot acting price_of_the_ticket", 0.5)
    known = facts(parse(_payload(generated())))
    assert (known["overlap"], known["leaks"], known["explanation"][:8]) == (0.31, True, "The plot")


def test_drift_in_the_tab_is_the_share_newly_selected_and_of_spans_that_of_the_weights():
    before, now = (parse(_payload(rationale(selected=flags(*chosen)))) for chosen in ((2, 3), (3, 4, 5, 6)))
    assert drift(now, before) == 0.75
    assert drift(before, before) == 0
    special = parse(_payload(rationale(selected=(True, *flags(3)[1:]))))
    assert drift(special, before) == 0
    assert drift(parse(_payload(rationale(selected=flags()))), before) is None
    assert drift(parse(_payload(spans())), parse(_payload(spans()))) == pytest.approx(0)


@pytest.mark.parametrize("make", [rationale, spans])
def test_a_long_text_is_written_in_windows_that_are_joined_again(make):
    words = [f"word{i % 97}" for i in range(3000)]
    weights = {"token_weights": tuple(i / 3000 for i in range(3002))} if make is spans else {}
    chances = {"selected": flags(*range(0, 3000, 7), words=words), "gold_rationale": flags(4, words=words)}
    chances |= {"probabilities": tuple(i / 3000 for i in range(3002))}
    row = make(**of_tokens(" ".join(words), words), **(weights or chances))
    pages = payloads(row, monitor="m", step=3, probe=0)
    assert len(pages) > 2
    assert max(map(len, pages)) <= 65536
    again = join(pages)
    for name in ("tokens", "words", "word_ids", "special", "offsets", *(weights or chances)):
        assert getattr(again, name) == getattr(row, name), name
    assert again.text.endswith("…")
    assert again.notes[-1].startswith("Shortened here: texts to")
    assert facts(parse(pages[0]))["prediction"] == "negative"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [4000, 65536])
def test_a_record_of_long_texts_fits(kind, limit):
    pages = payloads(of_text(KINDS[kind], "寿" * 100_000), monitor="m", step=3, probe=0, limit=limit)
    assert max(map(len, pages)) <= limit
    record = json.loads(pages[0])["records"][0]
    assert record["notes"][-1].startswith("Shortened here")
    assert join(pages).kind == kind
    words = card_of(of_text(KINDS[kind], "寿" * 100_000)).sentence[::2]
    assert tuple(record["sentence"][::2]) == words  # our words are whole
    with pytest.raises(ValueError, match=f"'{kind}' does not fit on a page"):
        payloads(KINDS[kind](), monitor="m", step=1, probe=0, limit=300)


def test_the_file_of_records_gives_every_record_back(tmp_path):
    rows = [arbitrary(seed) for seed in range(12)]
    jsonl.append(tmp_path / "rows.jsonl", (row.to_dict() for row in rows))
    assert [row_of(record) for record in jsonl.read(tmp_path / "rows.jsonl")] == rows


def test_of_more_concepts_than_fit_the_sum_is_that_of_all():
    every = tuple(Concept(f"concept {i}", 0.5, 0.5, (600 - i) / 1e3, 1.0) for i in range(600))
    (record,) = parse(_payload(concepts(concepts=every)))["records"]
    assert len(record["concepts"]) < record["concept_count"] == 600
    assert record["concept_sum"] == pytest.approx(sum(each.contribution for each in every))
    (record,) = parse(_payload(concepts()))["records"]
    assert record["concept_sum"] == pytest.approx(1.3)
