"""A sweep over layers: numbers, picture, tables."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from records import NASTY, image_row, row
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.report import layers, stages


def sweep(**changes):
    """Rows of one text at three layers: the second is no cut; the evidence moves to [SEP]."""
    first = row("good bad", [2.0, -1.0], attribution_target=1.25, cut=True, **changes)
    second = replace(first, layer="encoder.branch", scores=(0.0, 0.5, 0.0, 0.0), attribution_target=0.5, cut=False)
    third = replace(first, layer="encoder.layer.1", scores=(0.0, 0.0, 0.0, 1.25))
    return [first, second, third]


def _count(picture, colour):
    return {c: n for n, c in picture.getcolors(1 << 24)}.get(colour, 0)


def test_stages_say_sum_target_error_cut_and_how_much_cancels():
    found = stages.stages(sweep())
    assert [stage.total for stage in found] == [1.25, 0.5, 1.25]
    assert [stage.target for stage in found] == [1.25, 0.5, 1.25]
    assert [stage.cut for stage in found] == [True, False, True]
    assert [stage.cancelling for stage in found] == [2.6, 1.0, 1.0]
    assert found[0].cells() == ["encoder.embeddings", "+1.25", "+1.25", "0.12%", "yes", "2.6"]


def test_what_has_no_target_says_so_by_dashes():
    (stage,) = stages.stages([row(relative_error=None)])
    assert stage.cells()[2:] == ["–", "–", "–", "–"]


def test_tables_hold_every_layer():
    text = stages.as_text(sweep()).split("\n")
    assert text[0].split()[-3:] == ["error", "cut", "Σ|A|/|T|"]
    assert [line.split()[0] for line in text[2:5]] == ["encoder.embeddings", "encoder.branch", "encoder.layer.1"]
    assert text[3].split()[-2:] == ["no", "1"]
    page = markdown_to_safe_html(stages.as_markdown(sweep()))
    assert page.count("<tr>") == 4
    assert page.count("<table>") == 1


@pytest.mark.parametrize("name", NASTY)
def test_any_name_stays_in_its_cell(name):
    page = markdown_to_safe_html(stages.as_markdown([replace(each, layer=name) for each in sweep()]))
    assert page.count("<tr>") == 4
    assert page.count("<td") == 18
    layers.render([replace(each, layer=name) for each in sweep()])


def test_words_and_special_tokens_are_painted_in_one_scale():
    picture = layers.render(sweep())
    assert _count(picture, FOR) > 1000  # `good` at the first layer
    faint = layers.render([replace(each, scores=[s / 2 for s in each.scores]) for each in sweep()])
    assert _count(faint, FOR) == pytest.approx(_count(picture, FOR), rel=0.02)  # the scale is the sweep's own
    assert not _count(layers.render(sweep()[1:]), AGAINST) > 1000  # nothing is against at the later layers


def test_a_long_name_loses_its_beginning():
    pen = layers.Pen(("",))
    for name in ("encoder.layer.11", "x" * 5000 + ".layer.11", "model." * 30 + "layer.11"):
        shown = layers._tail(f"12  {name}", pen, 150)
        assert pen.width(shown, layers.SMALL) <= 150
        assert shown.startswith("12  ")
        assert shown.endswith(".layer.11")
        assert pen.width(shown + "x", layers.SMALL) > 150 or shown == f"12  {name}"


def test_layers_with_other_units_stand_in_the_table_alone():
    features = replace(row("0 1 2 3 4 5 6", [9.0] * 7), units="feature", layer="pooler")
    with_features = layers.render([*sweep(), features])
    assert with_features.height == layers.render(sweep()).height + 2 * 20


def test_the_height_is_bounded_and_the_strongest_words_stay():
    words = [f"w{i}" for i in range(300)]
    many = [row(words, [float(i) for i in range(300)], attribution_target=1.0, layer=f"l.{k}") for k in range(30)]
    assert layers.render(many).height == layers.render([replace(r) for r in many]).height < 4000
    fewer = [row(words[:40], [float(i) for i in range(40)], layer=f"l.{k}") for k in range(30)]
    assert layers.render(many).height <= layers.render(fewer).height + 2 * 40


@pytest.mark.parametrize("scores", [[0.0, 0.0], [math.nan, math.inf], [-math.inf, 1.0]])
def test_any_scores_are_drawn(scores):
    rows = [replace(each, scores=(0.0, *scores, 0.0)) for each in sweep()]
    assert layers.render(rows).height > 0
    assert stages.as_text(rows)


@pytest.mark.parametrize("picture", [True, None])
def test_an_image_has_a_small_picture_for_each_layer(picture):
    first = image_row((224, 224), before=0, picture=picture, attribution_target=1.0)
    rows = [first, *(image_row((14, 14), before=b, picture=picture, layer=f"layer.{b}") for b in range(4))]
    five, four = layers.render(rows), layers.render(rows[:4])
    assert five.width == four.width
    assert five.height > four.height + 2 * 100  # four stand side by side
    assert _count(five, FOR) > 100  # the legend


@pytest.mark.parametrize("small", [1.0, 0.0123456, 1.23456e-5])
def test_no_text_runs_into_another_or_out_of_the_picture(monkeypatch, small):
    spans, draw = {}, layers.Canvas.text

    def text(canvas, x, y, text, size, colour, *, align="l"):
        width = draw(canvas, x, y, text, size, colour, align=align)
        start = {"l": x, "m": x - width / 2, "r": x - width}[align]
        spans.setdefault((canvas, y), []).append((start, start + width, text))
        return width

    monkeypatch.setattr(layers.Canvas, "text", text)
    of_image = [image_row((4, 4), before=1, layer=f"vit.encoder.layer.{k}", attribution_target=1.0) for k in range(12)]
    of_text = [replace(each, attribution_target=-1.2345, relative_error=12.3456) for each in sweep()]
    for rows in (of_image, of_text):
        scaled = [each.attribution_target * small for each in rows]
        layers.render([replace(r, attribution_target=t, scores=[s * small * -7.77 for s in r.scores])
                       for r, t in zip(rows, scaled, strict=True)])  # fmt: skip
    assert len(spans) > 40
    for (canvas, _), line in spans.items():
        ordered = sorted(line)
        assert all(end < start for (_, end, _), (start, _, _) in pairwise(ordered)), ordered
        assert ordered[-1][1] <= canvas.width, ordered
