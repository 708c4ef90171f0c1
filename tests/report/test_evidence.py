"""Evidence as Markdown, as a picture, and on a page of the Interpret tab."""

import json
import math
import re
from dataclasses import replace

import pytest
from evidence import HARMFUL, HELPFUL, STATED, arbitrary_evidence, influence, near
from records import NASTY
from safe_html import capped, plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.evidence import TokenInfluence, TrainingExample
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.report import evidence_markdown, evidence_picture, frame
from lightning_interpret.report.canvas import Pen
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.tensorboard.payload import facts, parse


def _page(row):
    return markdown_to_safe_html(evidence_markdown.render(row))


def test_tables_list_the_examples_with_their_scores_labels_and_baselines():
    page = _page(influence(neighbors=near()))
    helpful, harmful, nearest, labels = tables(page)
    assert helpful[1] == [
        *("+0.27 🟦🟦", "112", "positive (model: negative)"),
        *("The plot is thin, and I loved it all the same.", "1.2", "60%"),
    ]
    assert harmful[0][:3] == ["-0.63 🟧🟧🟧", "30511", "negative"]
    assert nearest[0][:2] == ["3.21", "991"]
    assert labels == [["negative", "70%", "▇▇▇▇▇▇▇", "55%", "93%"], ["positive", "30%", "▇▇▇", "45%", "7%"]]
    bold = [plain(part) for part in re.findall(r"<strong>(.*?)</strong>", page)]
    assert bold[0] == "Wrong: predicted negative, gold positive"
    assert "positive (model: negative)" in bold
    said = plain(page)
    assert "Helpful: removing one of these would raise the loss" in said
    assert "Positive is helpful: removing the example would raise the query's loss." in said
    assert "bad 🟦🟦🟦 +0.4" in said


def test_what_is_missing_leaves_no_empty_table():
    page = _page(influence(helpful=(), harmful=(), approximation=replace(STATED, notes=("a note",)), notes=("b",)))
    assert tables(page) == []
    assert "No example has a positive score." in page
    assert "No example has a negative score." in page
    assert "<li>a note</li>" in page
    assert "<li>b</li>" in page


@pytest.mark.parametrize("token", [*NASTY, "<script>alert(1)</script>"])
def test_markdown_is_literal_wherever_a_text_stands(token):
    example = TrainingExample(1, -1.0, 0.5, token, token, token + "?")
    row = influence(
        text=token, prediction=token, why=token, notes=(token,), reasons={"loss": token}, harmful=(),
        helpful=(example,),
        neighbors=near(neighbors=(example,), shares={token: 1.0}, probabilities=None, model_probabilities=None),
    )  # fmt: skip
    page = _page(row)
    helpful, nearest, labels = tables(page)
    for line in (helpful[0], nearest[0]):
        assert line[2].strip() == f"{capped(token)} (model: {capped(token + '?')})".strip()
        assert "".join(line[3].split()) == ("".join(capped(token, 240).split()) if token else "–")
    assert labels[0][0].strip() == capped(token).strip()
    assert "<script" not in page
    assert "<a " not in page
    assert "<img" not in page


def _colours(picture):
    return {colour: count for count, colour in picture.getcolors(1 << 24)}


def test_helpful_is_blue_and_harmful_orange_and_wrong_is_seen():
    both = _colours(evidence_picture.render(influence()))
    assert min(both[FOR], both[AGAINST]) > 500
    assert both[frame.ALARM] > 500
    right = tuple(replace(each, prediction=each.gold) for each in HELPFUL)
    calm = _colours(evidence_picture.render(influence(gold="negative", helpful=right, harmful=())))
    assert frame.ALARM not in calm
    assert calm.get(AGAINST, 0) < 1000  # the heading alone
    stuck = replace(STATED, converged=False)
    assert frame.ALARM in _colours(
        evidence_picture.render(influence(gold="negative", helpful=right, harmful=(), approximation=stuck))
    )


@pytest.mark.parametrize("width", [10, 440])
@pytest.mark.parametrize("text", ["".join(NASTY), "word " * 200_000, "字" * 100_000])
def test_nothing_is_drawn_beyond_the_margins(text, width):
    example = TrainingExample(1 << 62, -1e-9, 0.5, text, text, text + "?", 1.0, 0.5)
    row = influence(
        text=text, prediction=text, why=text, helpful=(example,) * 9, notes=(text,) * 9,
        neighbors=near(neighbors=(example,), shares={text: 1.0, "b": 0.0}, tokens=(text,) * 9, scores=(1.0,) * 9),
    )  # fmt: skip
    picture = evidence_picture.render(row, width=width)
    assert picture.width == 2 * max(width, 240)
    assert picture.height < 6000
    side = 2 * frame.MARGIN - 4  # antialiasing, and glyphs that hang over
    for left in (0, picture.width - side):
        assert set(_colours(picture.crop((left, 0, left + side, picture.height)))) == {(255, 255, 255)}


@pytest.mark.parametrize("seed", range(20))
def test_any_record_is_drawn_and_written(seed):
    row = arbitrary_evidence(seed)
    assert evidence_picture.render(row).mode == "RGB"
    assert len(evidence_markdown.render(row)) < 65536
    (page,) = payloads(row, monitor="m", step=1, probe=0)
    assert join([page]) == type(row).from_dict(row.to_dict())


def test_a_text_is_wrapped_between_words_where_it_has_any():
    pen = Pen(("",))
    lines = evidence_picture.wrapped("one two three four five six", pen, 15, 80, 9)
    assert " ".join(lines) == "one two three four five six"
    assert all(pen.width(line, 15) <= 80 for line in lines)
    cut = evidence_picture.wrapped("w" * 1000, pen, 15, 80, 3)
    assert len(cut) == 3
    assert cut[2].endswith("…")
    assert evidence_picture.wrapped("", pen, 15, 80, 3) == []


def _payload(row, **options):
    (page,) = payloads(row, monitor="influence", step=3, probe=0, **options)
    return page


def test_a_record_that_fits_says_beside_itself_what_the_tab_follows():
    row = influence(neighbors=near(), approximation=replace(STATED, converged=True))
    known = facts(parse(_payload(row)))
    assert known["listed"] == "48213 112 7 30511 991"
    assert (known["most_helpful"], known["most_harmful"], known["gold_share"]) == (0.41, -0.63, 0.3)
    assert known["converged"] is True
    assert (known["text"], known["prediction"], known["gold"], known["example_id"]) == (
        row.text,
        "negative",
        "positive",
        17,
    )
    known = facts(parse(_payload(near(gold="neutral"))))
    assert (known["listed"], known["gold_share"], known["credibility"]) == ("991 30511 12", 0.0, 0.04)
    assert "gold_share" not in facts(parse(_payload(near(gold=None))))


def test_ids_that_are_followed_are_never_cut_and_never_rounded():
    huge = tuple(TrainingExample((1 << 62) + i, 1.0) for i in range(5))
    row = influence(example_id=(1 << 62) + 1, helpful=huge, harmful=huge)
    payload = parse(_payload(row))
    listed = facts(payload)["listed"].split()
    assert listed == [str((1 << 62) + i) for i in (0, 1, 2, 3, 4, 0, 1, 2, 3, 4)][: len(listed)]
    assert facts(payload)["example_id"] == str((1 << 62) + 1)  # a browser has no such integer
    assert payload["records"][0]["helpful"][1]["example_id"] == str((1 << 62) + 1)
    assert join([_payload(row)]) == row


@pytest.mark.parametrize("limit", [4000, 65536])
def test_a_record_that_does_not_fit_is_shortened_and_says_so(limit):
    long = "寿" * 50_000
    many = {f"label {i}": i / 1e6 for i in range(2000)}
    row = influence(
        text=long, helpful=tuple(replace(HELPFUL[0], example_id=i, text=long) for i in range(30)), notes=(long,),
        neighbors=near(text=long, shares=many, probabilities=many, tokens=("t",) * 5000, scores=(0.5,) * 5000),
    )  # fmt: skip
    page = _payload(row, limit=limit)
    assert len(page) <= limit
    short = join([page])
    assert short.text.startswith("寿")
    assert short.text.endswith("…")
    assert [each.example_id for each in short.helpful] == list(range(len(short.helpful)))
    assert len(short.neighbors.tokens) == len(short.neighbors.scores) >= 3
    assert max(short.neighbors.shares.values()) == max(many.values())
    assert short.notes[-1].startswith("Shortened here: texts to ")
    with pytest.raises(ValueError, match="'influence' does not fit on a page"):
        payloads(row, monitor="m", step=1, probe=0, limit=500)


def test_of_a_long_output_the_tab_has_one_example_of_each_sign_a_token():
    every = tuple(replace(HELPFUL[0], example_id=i, text="word " * 60) for i in range(5))
    row = influence(by_token=tuple(TokenInfluence(f"token {i}", 0.5, every, every) for i in range(60)))
    page = _payload(row)
    assert len(page) <= 65536
    short = join([page])
    assert [each.token for each in short.by_token] == [f"token {i}" for i in range(60)]
    assert {(each.helpful, each.harmful) for each in short.by_token} == {(every[:1], every[:1])}
    assert (short.text, short.helpful) == (row.text, row.helpful)
    assert short.notes[-1].startswith("Shortened here: for each token one example")
    few = replace(row, by_token=row.by_token[:2])
    assert join([_payload(few)]) == few
    assert "token 1" in str(few)
    assert "owed to #0 word word" in str(few)


def test_numbers_that_are_not_finite_are_json():
    nan = replace(HARMFUL[0], score=math.nan)
    row = influence(helpful=(nan,), harmful=(), neighbors=near(shares={"positive": math.nan}), loss=math.inf)
    (record,) = json.loads(_payload(row))["records"]
    assert record["helpful"][0]["score"] is record["most_helpful"] is record["loss"] is record["gold_share"] is None
