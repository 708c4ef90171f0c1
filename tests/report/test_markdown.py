import html
import re

import pytest
from records import NASTY, arbitrary_row, image_row, row
from safe_html import capped, plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.report.markdown import escape, render
from lightning_interpret.report.words import shades


@pytest.mark.parametrize("token", NASTY)
def test_a_token_is_literal_wherever_it_stands(token):
    safe = escape(token)
    page = markdown_to_safe_html(f"| a | b |\n| --- | --- |\n| {safe} | **x{safe}** |\n\n{safe} y\n\n- {safe}")
    literal = capped(token)
    assert [cell.strip() for cell in tables(page)[0][0]] == [literal.strip(), f"x{literal}".strip()]
    assert plain(re.search(r"<p>(.*?)</p>", page, re.S)[1]) == (f"{literal} y" if literal else "y")
    assert plain(re.search(r"<li>(.*?)</li>", page, re.S)[1]).strip() == literal.strip()


@pytest.mark.parametrize("seed", range(10))
def test_every_word_is_in_the_text_and_in_the_table(seed):
    sample = arbitrary_row(seed)
    page = markdown_to_safe_html(render(sample))
    ranking, facts = tables(page)
    words = shades(sample)
    assert facts[0][1].rstrip() == capped(f"{sample.target:+.4g}, the logit of {sample.target_name}").rstrip()
    assert [words[int(place) - 1].text.strip() for place, *_ in ranking] == [line[1].strip() for line in ranking]
    sizes = [abs(words[int(place) - 1].score) for place, *_ in ranking]
    assert sizes == sorted((abs(word.score) for word in words), reverse=True)
    running = "".join(plain(page).split())
    assert re.sub(r"\s", "", "".join(w.text for w in words)) in re.sub(r"[🟦🟧]", "", running)


def test_the_head_says_what_was_explained():
    page = markdown_to_safe_html(
        render(row(gold="negative", converged=False, prediction="positive", partial_error=0.015))
    )
    assert dict(tables(page)[1]) == {
        "target": "+2.5, the logit of positive",
        "prediction": "positive",
        "gold": "negative",
        "baseline": "pad",
        "baseline target": "-0.125",
        "error": "+0.003",
        "relative error": "0.12%",
        "partial error": "1.50%",
        "steps": "64",
        "converged": "no",
        "layer": "encoder.embeddings",
        "method": "integrated_gradients",
        "example": "–",
    }
    first = plain(re.findall(r"<p>(.*?)</p>", page, re.S)[2])
    assert first == "positive +2.5 (logit) · baseline pad -0.125 · error 0.12%"
    assert "<strong>Wrong: predicted positive, gold negative</strong>" in page
    assert "Not converged" in page
    assert "Wrong" not in render(row())
    assert "Not converged" not in render(row())


def test_squares_grow_with_the_score():
    text = render(row("a b c d", scores=[3.0, -1.5, 0.75, 0.1]))
    assert "**a** 🟦🟦🟦 **b** 🟧🟧 **c** 🟦 d" in text


def test_what_the_table_leaves_out_is_summed_up():
    sample = row([f"w{i}" for i in range(100)], scores=[1.0] * 100)
    text = render(sample, limit=60)
    assert len(tables(markdown_to_safe_html(text))[0]) == 60
    # 100 words and [CLS] and [SEP]: 40 words of score 1, and 0.25
    assert "\n\n42 more words add up to +40, 40.1% of the size.\n\n" in text


def test_a_long_text_is_cut_and_says_so():
    text = render(row(["w"] * 20_000))
    assert "and 19002 more words" in text
    assert len(text.encode()) < 65536


def test_the_box_of_a_detector_is_a_fact():
    page = html.unescape(markdown_to_safe_html(render(image_row(box=(0.1, 0.25, 0.5, 1.0)))))
    assert "(0.10, 0.25)–(0.50, 1.00)" in page
    assert "box" not in markdown_to_safe_html(render(image_row()))
