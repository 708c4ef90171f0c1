"""Landmarks as Markdown, as a picture, on a page of the Interpret tab, and in the file of records."""

from dataclasses import replace

import pytest
from evidence import LIKE, UNLIKE, landmarks
from records import NASTY
from safe_html import capped, plain, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.cards import sentence
from lightning_interpret.evidence import TrainingExample
from lightning_interpret.palette import AGAINST, FOR
from lightning_interpret.report import evidence_markdown, evidence_picture, frame, jsonl
from lightning_interpret.report.interpret_summary import join, payloads
from lightning_interpret.report.presenters import row_of
from lightning_interpret.tensorboard.payload import facts, parse


def _page(row):
    return markdown_to_safe_html(evidence_markdown.render(row))


def _payload(row, **options):
    (page,) = payloads(row, monitor="landmarks", step=3, probe=0, **options)
    return page


def test_the_sentence_comes_first_then_tables_then_what_it_adds_up_to():
    page = _page(landmarks())
    said = plain(page)
    assert said.startswith("".join(sentence(landmarks())))
    like, unlike = tables(page)
    assert like[1] == [
        *("+0.8 🟦🟦", "17", "location (model: entity)"),
        *("What city hosts the Prado ?", "–", "1.9", "40%"),
    ]
    assert unlike[0][:3] == ["-0.9 🟧🟧🟧", "5", "human"]
    nothing_beside = tuple(TrainingExample(i, 1.0, text="a text") for i in range(3))
    assert tables(_page(landmarks(like=nothing_beside, unlike=())))[0][0] == ["+1 🟦🟦🟦", "0", "–", "a text"]
    assert unlike[1] == ["-0.2 🟧", "61", "–", "–", "–", "–", "–"]
    assert said.index("Σ of 64 landmarks +2.05") > said.index("Unlike: landmarks that speak against it")
    assert "Where 🟦🟦🟦 +0.9" in said
    empty = plain(_page(landmarks(like=(), unlike=())))
    assert "No landmark speaks for it." in empty
    assert "No landmark speaks against it." in empty


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>"])
def test_markdown_is_literal_wherever_a_text_stands(text):
    example = TrainingExample(1, 1.0, None, text, text, text + "?")
    row = landmarks(
        text=text, prediction=text, gold=text, target_name=text, kernel=text, why=text, notes=(text,),
        like=(example,), unlike=(replace(example, score=-1.0),), absorbed={text: 1.0}, tokens=(text,), scores=(1.0,),
    )  # fmt: skip
    page = _page(row)
    for line in (each[0] for each in tables(page)):
        assert line[2].strip() == f"{capped(text)} (model: {capped(text + '?')})".strip()
    for mark in ("<script", "<a ", "<img", "<em>", "<code>"):
        assert mark not in page


def _colours(picture):
    return {colour: count for count, colour in picture.getcolors(1 << 24)}


def test_like_is_blue_and_unlike_orange_and_what_is_wrong_is_seen():
    right = tuple(replace(each, prediction=each.gold) for each in LIKE)
    calm = _colours(evidence_picture.render(landmarks(like=right, tokens=None)))
    assert min(calm[FOR], calm[AGAINST]) > 500
    assert frame.ALARM not in calm
    for changed in (landmarks(like=right, gold="human"), landmarks(like=right, error=0.5)):
        assert _colours(evidence_picture.render(changed))[frame.ALARM] > 300
    one_sided = _colours(evidence_picture.render(landmarks(like=right, unlike=(), tokens=None)))
    assert one_sided.get(AGAINST, 0) < 1000  # the heading alone


@pytest.mark.parametrize("width", [10, 440])
@pytest.mark.parametrize("text", ["".join(NASTY), "word " * 200_000, "字" * 100_000])
def test_nothing_is_drawn_beyond_the_margins(text, width):
    example = TrainingExample(1 << 62, 1e-9, None, text, text, text + "?", 1.0, 0.5)
    row = landmarks(
        text=text, prediction=text, target_name=text, kernel=text, like=(example,) * 9, unlike=(example,) * 9,
        absorbed={text: 1.0}, notes=(text,) * 9, tokens=(text,) * 9, scores=(1.0,) * 9,
    )  # fmt: skip
    picture = evidence_picture.render(row, width=width)
    assert picture.height < 6000
    side = 2 * frame.MARGIN - 4  # antialiasing, and glyphs that hang over
    for left in (0, picture.width - side):
        assert set(_colours(picture.crop((left, 0, left + side, picture.height)))) == {(255, 255, 255)}


def test_beside_the_record_stands_what_the_tab_follows():
    known = facts(parse(_payload(landmarks())))
    assert known["listed"] == "402 17 88 5 61"
    assert (known["most_like"], known["most_unlike"], known["target"]) == (1.2, -0.9, 1.8)
    assert known["total"] == pytest.approx(2.05)
    assert known["bias_share"] == pytest.approx(0.25 / 8.45)
    assert (known["converged"], known["approximation_error"]) == (True, 0.087)
    assert (known["text"], known["prediction"], known["gold"]) == (landmarks().text, "location", "location")
    bare = facts(parse(_payload(landmarks(error=None, magnitude=None, like=(), unlike=()))))
    assert bare["listed"] == ""
    assert not {"converged", "most_like", "most_unlike", "total", "bias_share"} & bare.keys()
    assert facts(parse(_payload(landmarks(error=1.0))))["converged"] is False


@pytest.mark.parametrize("limit", [6000, 65536])
def test_a_record_that_does_not_fit_is_shortened_and_says_so(limit):
    long = "寿" * 50_000
    row = landmarks(
        text=long, prediction=long, gold=long, target_name=long, kernel=long, notes=(long,),
        like=tuple(replace(LIKE[0], example_id=i, text=long, gold=long) for i in range(300)),
        tokens=("t",) * 5000, scores=(0.5,) * 5000,
    )  # fmt: skip
    page = _payload(row, limit=limit)
    assert len(page) <= limit
    short, record = join([page]), parse(page)["records"][0]
    assert [each.example_id for each in short.like] == list(range(len(short.like)))
    assert len(short.tokens) == len(short.scores) >= 3
    assert short.notes[-1].startswith("Shortened here: texts to ")
    assert record["sentence"][::2] == list(sentence(row)[::2])  # our words are whole
    assert (short.unlike[0].score, short.target, short.absorbed) == (UNLIKE[0].score, 1.8, {"bias": -0.25})
    with pytest.raises(ValueError, match="'landmarks' does not fit on a page"):
        payloads(row, monitor="m", step=1, probe=0, limit=500)


def test_the_file_of_records_gives_every_text_back(tmp_path):
    rows = [landmarks(text="".join(NASTY)), landmarks(like=(), tokens=None, scores=None), landmarks(error=float("nan"))]
    jsonl.append(tmp_path / "rows.jsonl", (row.to_dict() for row in rows))
    back = [row_of(record) for record in jsonl.read(tmp_path / "rows.jsonl")]
    assert back == [*rows[:2], landmarks(error=None)]
