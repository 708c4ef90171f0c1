"""Trees of spans: the record and its JSON, its text tree, card, Markdown, picture, notebook and pages."""

import json
import math
from dataclasses import replace

import pytest
from explained import of_tokens
from records import NASTY
from safe_html import plain, tables
from tensorboard.plugin_util import markdown_to_safe_html
from trees import WORDS, arbitrary, chain, of_text, tree

from lightning_interpret.cards import card_of
from lightning_interpret.palette import FOR, background
from lightning_interpret.records.span_tree import SpanNode, SpanTree, SpanTreeRow
from lightning_interpret.report import evidence_markdown, evidence_picture
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import facts, parse

TREE = """\
  +1.5  Not a bad film at all
    +2  ├ Not a bad film
    -1  │ ├ Not
  +2.5  │ └ a bad film
     0  │   ├ a
  +2.2  │   └ bad film
  -0.5  └ at all
     0    ├ at
 -0.25    └ all
"""


def test_a_tree_is_read_from_the_whole_text_down():
    row = tree()
    assert row.levels == (0, 1, 1, 2, 2, 2, 2, 3, 3)
    assert row.depth == 3
    assert row.spans == {(0, 4), (4, 6), (1, 4), (2, 4)}
    assert row.text_of(row.foremost) == "a bad film"  # the highest of at most half the text
    shown = str(row).replace("\u00a0", " ").split("\n")
    begin = shown.index("spans (the score with the span alone, less that of nothing):")
    assert [line.strip() for line in shown[begin + 1 : begin + 10]] == [line.strip() for line in TREE.splitlines()]
    assert (
        shown[0]
        == "Wrongly said negative (gold positive). For negative speaks 'a bad film' most (+2.5), against it 'Not' (-1)."
    )


def test_units_are_words_or_the_tokens_that_are_not_special():
    row = tree(words=("Nota", *WORDS[2:]), word_ids=(None, 0, 0, 1, 2, 3, 4, None), unit="token")
    assert row.units == WORDS
    assert replace(row, unit="word").units == ("Nota", "bad", "film", "at", "all")
    assert row.text_of(SpanNode(90, 92, 0.0)) == "tokens 90 to 91"


@pytest.mark.parametrize("row", [tree(), chain(1), chain(40), SpanTreeRow(text="a b"), *map(arbitrary, range(40))])
def test_json_both_ways_and_every_report_of_it(row):
    again = SpanTreeRow.from_dict(json.loads(json.dumps(row.to_dict())))
    finite = all(math.isfinite(v) for n in row.nodes for v in (n.score, n.interaction or 0.0))
    assert not finite or again == row
    assert str(again) == str(row) or not finite
    assert row_of(row.to_dict()).spans == row.spans
    assert evidence_picture.render(row).width == 880
    assert evidence_markdown.render(row)
    assert row._repr_html_()
    (page,) = payloads(row, monitor="m", step=3, probe=0)
    (record,) = parse(page)["records"]
    assert (record["depth"], record["considered"]) == (row.depth, len(row.nodes))
    assert "nodes" not in facts(parse(page))


def test_a_tree_with_its_lower_levels_left_out_is_a_tree():
    row = chain(40)
    for most in (100, 79, 78, 40, 5, 2, 1, 0):
        some = row.pruned(most)
        assert len(some.nodes) <= max(most, 1)
        leaves = sorted((node.start, node.end) for node in some.nodes if not node.children)
        assert [a for a, _ in leaves] == [0, *(b for _, b in leaves[:-1])]
        assert leaves[-1][1] == 40
        for i, node in enumerate(some.nodes):
            assert all(some.nodes[k].parent == i for k in node.children)
    assert "… 40 more spans below these." in str(row)
    assert "… 28 more levels" in str(card_of(row).tree.unseen) or card_of(row).tree.unseen == "28 more levels"


def test_a_card_says_what_it_knows_and_nothing_of_what_it_does_not():
    card = card_of(tree())
    assert card.origin == "span tree · hedge"
    assert dict(card.facts)["score"] == "+1.75 (margin of negative)"
    assert dict(card.facts)["spans"] == "9 in 4 levels"
    assert dict(card.facts)["random span erased"] == "falls by 0.05"
    assert "Interaction: what two parts do together only." in card.stated
    bare = card_of(SpanTreeRow(text="a b"))
    assert (bare.tree, bare.sentence, bare.facts, bare.stated) == (None, (), (), ())
    flat = card_of(chain(4, score=0.0))
    assert flat.sentence == ()
    assert {branch.strength for branch in flat.tree.branches} == {0.0}


def test_the_spans_stand_in_the_text_tab_with_squares_of_their_sign():
    page = markdown_to_safe_html(evidence_markdown.render(tree()))
    found = tables(page)[0]
    assert [row[1] for row in found] == ["+1.5", "+2", "-1", "+2.5", "0", "+2.2", "-0.5", "0", "-0.25"]
    assert found[3][2:] == ["🟦🟦🟦", "+0.75"]
    assert found[2][2] == "🟧🟧"
    assert "a bad film" in found[3][0].replace("\u00a0", " ")
    assert "Random spans as long: +0.05" in plain(page)


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>"])
def test_texts_are_never_markup(text):
    row = of_text(text)
    page = markdown_to_safe_html(evidence_markdown.render(row))
    for mark in ("<script", "<a ", "<img", "<code>", "<b>", "<h1", "<em>"):
        assert mark not in page
    assert "<script" not in row._repr_html_()
    evidence_picture.render(row)
    assert "\x1b" not in str(row)


def test_a_picture_has_a_box_a_span_and_long_texts_are_wrapped_and_bounded():
    colours = {colour: count for count, colour in evidence_picture.render(tree()).getcolors(1 << 24)}
    assert colours[FOR] > 2000  # the strongest span
    assert colours[background(-0.4)] > 500
    assert evidence_picture.render(chain(300)).height < 5000
    assert evidence_picture.render(chain(60, text="寿" * 60), width=240).height < 5000
    arabic = "مرحبا هذا فيلم جيد".split()  # noqa: SIM905
    nodes = (SpanNode(0, 4, -1.0, None, (1, 2), 0.0), SpanNode(0, 1, 1.0, 0), SpanNode(1, 4, -0.5, 0))
    row = SpanTreeRow(**of_tokens(" ".join(arabic), arabic), nodes=nodes)
    assert card_of(row).tree.right_to_left
    image = evidence_picture.render(row)
    blue = [x for x in range(image.width) if any(image.getpixel((x, y)) == FOR for y in range(0, image.height, 2))]
    assert min(blue) > image.width / 2  # its first word is on the right


@pytest.mark.parametrize("limit", [4000, 65536])
@pytest.mark.parametrize("row", [chain(400), chain(1500), of_text("寿" * 20_000)], ids=["long", "longer", "wide"])
def test_pages_hold_a_tree_that_is_whole_as_far_as_it_goes(row, limit):
    pages = payloads(row, monitor="m", step=3, probe=0, limit=limit)
    assert max(map(len, pages)) <= limit
    found, record = join(pages), json.loads(pages[0])["records"][0]
    leaves = sorted((node.start, node.end) for node in found.nodes if not node.children)
    assert [a for a, _ in leaves] == [0, *(b for _, b in leaves[:-1])]
    assert (record["considered"], record["depth"]) == (len(row.nodes), row.depth)
    told = " ".join(found.notes)
    assert len(found.nodes) == len(row.nodes) or f"Of {len(row.nodes)} spans the" in told
    assert found.words == row.words or "Shortened here" in told


def test_trees_of_a_batch_are_rows():
    trees = SpanTree((tree(), chain(2)))
    assert trees[1].depth == 1
    assert str(trees).count("\n\n") == 1
    assert "<hr>" in trees._repr_html_()
