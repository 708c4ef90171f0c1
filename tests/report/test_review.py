"""The review of bad cases: what it says of a report, that no text of it is more than a text, and how large it gets."""

import base64
import dataclasses
import hashlib
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest
import reviews
from bad_case_records import CASE, GROUP
from records import NASTY
from reviews import attribution, case, group, predictions, report

from lightning_interpret.bad_cases import Action, Erasure, RowEdit
from lightning_interpret.report.review import review, write_review

VOID = {"meta", "input", "br"}


class _Page(HTMLParser):
    """Checks that elements are nested, and gathers what a reader of one language is shown."""

    def __init__(self, language):
        super().__init__()
        self.language, self.open, self.said, self.headings, self.tags, self.ids = language, [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        self.ids += [attrs["id"]] if "id" in attrs else []
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "style", "srcset", "action")], (
            attrs
        )
        assert attrs.get("href", "#").startswith("#")
        if tag in ("h1", "h2", "h3", "h4", "h5"):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append((tag, attrs))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag
        self.said += [" "] * (tag not in ("span", "bdi", "b", "mark"))

    def handle_data(self, data):
        hidden = any("t" in attrs.get("class", "").split() and attrs["lang"] != self.language for _, attrs in self.open)
        if not hidden and self.open and self.open[-1][0] not in ("style", "title"):
            self.said.append(data)

    @property
    def text(self):
        return " ".join("".join(self.said).split())


def read(page, language="en"):
    parsed = _Page(language)
    parsed.feed(page)
    parsed.close()
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    return parsed


def said(*arguments, language="en"):
    return read(review(report(*arguments)), language).text


USUAL = review(reviews.usual())


def test_the_sentences_are_those_of_a_person():
    text = read(USUAL).text
    for sentence in (
        "Model: reviews. It learned from train.tsv and was checked with val.tsv.",
        "The model was checked with 177 texts.",
        "Its answer to 171 of them is right (97%); 6 are wrong.",
        "6 of the wrong answers were given with confidence: the model was at least 90% sure.",
        "9 right answers were close calls: the model was less than 60% sure.",
        "Start here: The model goes by “tuesday”.",
        "The model goes by “tuesday” 12 texts; very probably so",
        "No cause was found 1 text",
        "The model said negative (91% sure), but the label is positive.",
        "It said so mainly because of “not bad”.",
        "Without “not bad” it would still say negative, but be 70% sure instead of 91%.",
        "4 of the 5 most similar training texts are labelled negative.",
        "Without “tuesday” it would say negative.",
        "All of the 3 most similar training texts are labelled positive.",
        "The model said positive, which is right, but it was only 55% sure.",
        "This is very probably so (90%).",
        "The model was checked with 20 texts of this kind; it answers 40% of them rightly.",
        "Read these 3 examples again and compare the two labels.",
        "It is unlike the training data: of the texts that were answered rightly, 97% are closer to the training data.",
        "One cause that was found at an earlier check is no longer seen: Texts that are too long for the model",
        "83% of its words are in no training text.",
        "Where it was less than 60% sure, 9 of 9 answers are right (100%).",
        "It does worst where the label is positive: 114 of 118 are right.",
    ):
        assert sentence in text, sentence


def test_the_same_is_said_in_chinese():
    text = read(USUAL, "zh").text
    for sentence in (
        "这次用 177 条文本检查了模型。", "其中 171 条回答正确（97%），6 条回答错误。", "模型只看“tuesday”",
        "模型的回答是“negative”（把握 91%），但标签是“positive”。", "它这样回答，主要是因为“not bad”。",
        "对这个回答影响最大的是“不差”。",
        "如果去掉“tuesday”，它的回答会变成“negative”。", "训练数据里与它最相似的 3 条文本，标签都是“positive”。",
        "“好评”和“差评”混淆了", "这个判断很可能成立（90%）。",
    ):  # fmt: skip
        assert sentence in text, sentence
    assert not re.search(r"The model|What to do|It said", text)


def test_causes_come_by_importance_and_what_has_none_comes_last():
    shown = [read(f"<p>{each}</p>").text for each in re.findall(r"<h3 .*?>(.*?)</h3>", USUAL)]
    assert [title.split(" ", 1)[1] for title in shown] == [
        "The model goes by “tuesday”", "Training examples with a doubtful label", "The model passes over “not bad”",
        "Texts unlike anything in the training data", "好评 and 差评 are mixed up", "No cause was found",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sure", "word"), [(0.8, "very probably"), (0.5, "probably"), (0.49, "perhaps"), (None, "perhaps")]
)
def test_a_cause_is_said_as_surely_as_its_rule_is(sure, word):
    one = case()
    text = said([one], [group("composition", "not bad", [one], sure=sure)])
    assert f"The model {word} does not take that into account." in text


@pytest.mark.parametrize(
    ("cue", "title"),
    [
        ("a / b", "a and b are mixed up"),
        *((cue, "Two labels are mixed up") for cue in ("a/b", "a / b / c", " / b", "")),
    ],
)  # fmt: skip
def test_a_confusion_names_its_labels_where_it_is_clear_which_they_are(cue, title):
    text = said([], [replace(group("confusion", cue, action=Action("look", "!")), size=2)])
    assert f"1 {title}" in text
    assert ("This group is about" in text) == (bool(cue) and title.startswith("Two"))
    assert "Write down what tells the two labels apart." in text


def test_words_that_mattered_are_marked_by_more_than_colour():
    page = read(USUAL)
    kinds = {attrs["class"] for tag, attrs in page.tags if tag == "mark"}
    assert kinds == {"for", "against"}
    assert '<mark class="for">not</mark> <mark class="for">bad</mark>' in USUAL
    style = re.search(r"<style>(.*?)</style>", USUAL, re.S)[1]
    assert "mark.for" in style
    assert "underline solid" in style
    assert "underline dotted" in style


def test_an_attribution_of_another_label_is_no_reason():
    about_gold = replace(case().attribution, target_name="positive")
    text = said([case(attribution=about_gold)], [])
    page = review(report([case(attribution=about_gold)], [group("composition", "not bad", [case()])]))
    assert "mainly because" not in text + read(page).text
    assert '<mark class="for">not bad</mark>' in page


def test_where_nothing_was_measured_nothing_is_said():
    bare = case(attribution=None, neighbors=None, erasures=(), cause="unexplained", cue="", text=None, example_id=None)
    text = said([bare], [group("unexplained", "", [bare], sure=0.0)])
    assert "val.tsv, number 20 (no text)" in text
    for part in ("because", "similar training texts are", "Without", "This is"):
        assert part not in text.replace("Training texts are called similar", "")


def _of(*erasures):
    one = case(erasures=erasures)
    return said([one], [group("composition", "not bad", [one])])


def test_words_whose_removal_changes_little_are_no_main_reason_and_are_not_told():
    quiet = _of(Erasure((0,), "The", 0.91, 0.9, "negative"), Erasure((1,), "soup", 0.9, None, "negative"))
    assert "Without" not in quiet
    assert "What seems to have counted most for this answer: “not bad”." in quiet
    other = _of(Erasure((5,), "a", 0.91, 0.4, "positive"))  # which is a letter of "bad", and no word of it
    assert "What seems to have counted most for this answer: “not bad”. Without “a” it would say positive." in other
    other = _of(Erasure((1,), "soup", 0.91, 0.4, "positive"))
    assert "What seems to have counted most for this answer: “not bad”. Without “soup” it would say positive." in other


@pytest.mark.parametrize(
    ("erased", "side"),
    [
        (Erasure((4,), "bad", 0.91, 0.1, "positive"), "for"),
        (Erasure((3, 4), "not bad", 0.91, 0.1, "positive"), "against"),  # "not" speaks for it by more
        (Erasure((4,), "bad", 0.91, 0.5, "negative"), "against"),
    ],
)
def test_a_word_without_which_the_answer_turns_is_not_marked_as_speaking_against_it(erased, side):
    scores = attribution(["The", "soup", "was", "not", "bad"], [0.0, 0.0, 0.0, 3.0, -2.0], "negative")
    one = case("The soup was not bad", attribution=scores, erasures=(erased,))
    page = review(report([one], [group("composition", "not bad", [one])]))
    assert f'<mark class="{side}">bad</mark>' in page
    assert ("because of “not bad”" in read(page).text) == (side == "for")


def test_the_fewest_words_that_change_the_answer_are_told():
    text = _of(
        Erasure((2, 3, 4), "was not bad", 0.91, 0.1, "positive"), Erasure((3,), "not", 0.91, 0.8, "negative"),
        Erasure((4,), "bad", 0.91, 0.3, "positive"),
    )  # fmt: skip
    assert "Without “bad” it would say positive. Without “not” it would still say negative" in text
    assert "was not bad”" not in text
    assert "Without “a b” and “c” it" in _of(Erasure((1, 2, 5, 8), "a b c c", 0.91, 0.1, "positive"))
    assert "Without “a-b c” it" in _of(Erasure((1, 2, 3), "a-b c", 0.91, 0.1, "positive"))


def test_rows_stand_with_their_place_their_label_and_what_is_proposed():
    rows = re.findall(r"<tr>(.*?)</tr>", USUAL)
    found = [[read(f"<p>{cell}</p>").text for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
    assert ["train.tsv, number 11", "cold soup", "positive", "negative", "80%"] in found
    assert ["val.tsv, line 5", CASE.text, "negative", "for you to decide", "–"] in found
    assert ["tuesday cold soup", "negative"] in found
    assert ["positive", "118", "114", "4", "4"] in found


@pytest.mark.parametrize(
    ("what", "edits", "expected"),
    [
        ("relabel", 2, "Read these 2 examples again and compare the two labels."),
        ("relabel", 1, "Read this example again and compare the two labels."),
        ("relabel", 0, "Read the examples below. No change is proposed."),
        ("add", 0, "Collect more training texts like the examples below, and label them."),
        ("add", 1, "Read this new text. If it makes sense"),
        ("balance", 2, "so that “not bad” no longer gives the answer away."),
        ("balance", 0, "Collect training texts in which the same words stand with other labels"),
        ("deduplicate", 2, "Read these 2 training texts again and decide which labels are right"),
        ("deduplicate", 0, "Decide which label is right for texts that are nearly the same"),
        ("lengthen", 0, "Ask the engineer to let the model read more of each text."),
        ("look", 0, "Read the examples below. No change is proposed."),
        ("dance", 0, "Read the examples below. No change is proposed."),
    ],
)
def test_what_to_do_is_said_for_each_action(what, edits, expected):
    new = what in ("add", "balance")
    rows = tuple(RowEdit("train", i, "negative", "positive", f"text {i}", 0.5, "", new) for i in range(edits))
    text = said([], [replace(group("composition", "not bad", [], action=Action(what, "!", rows)), size=2)])
    assert expected in text


def test_rows_that_no_group_asks_for_stand_at_the_end_and_the_first_are_shown_at_once():
    suspects = [RowEdit("train", i, "a", "b", f"suspect {i}", 0.7) for i in range(60)]
    written = [{**dataclasses.asdict(each), "novel": 1} for each in suspects]
    asking = group("training_label_error", "", [case()], action=Action("relabel", "!", tuple(suspects[:2])))
    page = review(report([], [asking]) | {"suspects": written})
    text = read(page).text
    assert "Other training examples with a doubtful label 58 texts" in text
    assert "58 more training examples perhaps have the wrong label, though no wrong answer was traced to them." in text
    assert "Show 44 more rows" in text
    assert "8 more rows are in the file relabel.tsv." in text
    assert text.count("suspect 1 ") == 1
    calm = read(review(report([], []) | {"suspects": written[:1]})).text
    assert "One more training example perhaps has the wrong label" in calm
    assert "Nothing is proposed" not in calm


def test_no_bad_case_at_all_is_good_news():
    text = said([], [])
    assert "Every answer agrees with its label." in text
    assert "8 right answers were close calls" in text
    calm = read(review(report([], [], predictions([], close=0)))).text
    assert "No wrong answer and no close call was found: there is nothing to check here." in calm
    assert "Nothing is proposed." in calm
    assert "All wrong answers" not in calm


def test_all_bad_one_class_no_labels_and_no_texts_are_told():
    cases = [case(index=i) for i in range(3)]
    rows = predictions(cases, right=0)
    text = read(review(report(cases, [], rows))).text
    assert "Every answer differs from its label. Check first" in text
    assert "All texts have the same label, positive." in text
    assert "Where it was at least 90% sure, 0 of 3 answers are right (0%)." in text
    open_ones = [row | {"gold": None} for row in rows]
    text = read(review(report([case(gold=None)], [group("composition", "not bad", [case(gold=None)])], open_ones))).text
    assert "The texts have no labels, so it is not known which answers are wrong." in text
    assert "The model said negative (91% sure). The text has no label." in text
    assert "it cannot be said whether the model is sure for good reason" in text
    some = read(review(report(cases, [], [*rows, *open_ones]))).text
    assert "3 texts have a label; the others do not count here." in some
    assert "The model was checked with no text" in read(review(reviews.empty(validated=0))).text
    unlabelled = reviews.empty(validated=5, accuracy=None)
    assert "The texts have no labels" in read(review(unlabelled)).text
    one = read(review(report([case()], [], predictions([case()], right=0)))).text
    assert "The model was checked with one text." in one


LITERAL = [
    "</style></script><script>alert(1)</script>",
    "' onload='alert(1)",
    "\u202eevil \ud800 \x00\x1b[31m",
    "{count}",
    "",
]


@pytest.mark.parametrize("text", [*LITERAL, " / ", "\n".join(NASTY), "".join(NASTY[::-1])])
def test_every_text_is_literal(text):
    page = review(reviews.of_text(text))
    parsed = read(page)
    assert {tag for tag, _ in parsed.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "article", "details"),
        *(
            "fieldset",
            "legend",
            "label",
            "input",
            "summary",
            "div",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "p",
            "ul",
            "ol",
            "li",
        ),
        *("a", "small", "span", "b", "bdi", "mark", "table", "caption", "thead", "tbody", "tr", "th", "td"),
    }
    assert not any(ord(each) < 32 and each != "\n" for each in unescape(page))
    assert not re.search("[\u202a-\u202e\u2066-\u2069\ud800-\udfff]", unescape(page))


def test_a_page_asks_for_nothing_and_forbids_what_it_has_not():
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', USUAL)[1]
    style = re.search(r"<style>(.*?)</style>", USUAL, re.S)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "<script" not in USUAL
    assert "url(" not in style
    assert not re.search(r"https?:", USUAL)


def test_a_reader_of_the_page_by_ear_finds_their_way():
    page = read(USUAL)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))
    ids = set(page.ids)
    names = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert names
    assert ids.issuperset(names)
    assert ids.issuperset(attrs["href"][1:] for tag, attrs in page.tags if tag == "a")
    count = {name: sum(tag == name for tag, _ in page.tags) for name in ("main", "nav", "header", "table", "caption")}
    assert (count["main"], count["nav"], count["header"]) == (1, 1, 1)
    assert count["table"] == count["caption"] > 4
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("dir") == "auto" for tag, attrs in page.tags if attrs.get("class") == "text" or tag == "bdi")
    assert page.tags[0] == ("html", {"lang": "en", "dir": "ltr"})


def test_another_language_comes_from_a_file_and_stands_first(tmp_path):
    path = tmp_path / "fr.json"
    path.write_text(
        json.dumps({"code": "fr", "name": "Français", "sentences": {"group.do": "Que faire"}}), encoding="utf8"
    )
    with pytest.warns(UserWarning, match="said in English"):
        page = review(reviews.usual(), str(path))
    parsed = read(page, "fr")
    assert "Que faire" in parsed.text
    assert 'id="show-fr" checked' in page
    assert [attrs["id"] for tag, attrs in parsed.tags if tag == "input"] == ["show-fr", "show-en", "show-zh"]
    assert page.startswith('<!DOCTYPE html><html lang="fr"')


def test_a_file_that_is_no_report_is_refused(tmp_path):
    for wrong in (
        {},
        reviews.usual() | {"kind": "other"},
        reviews.usual() | {"schema": 2},
        reviews.usual() | {"schema": "1"},
    ):
        with pytest.raises(ValueError, match="Expected a report of kind 'bad_case_report'"):
            write_review(tmp_path / "review.html", wrong)
    with pytest.raises(ValueError, match="Expected a record of kind 'bad_cases'"):
        write_review(tmp_path / "review.html", {"schema": 1, "kind": "bad_case_report"})
    assert not list(tmp_path.iterdir())


def test_a_review_is_written_whole_and_over_the_one_before(tmp_path):
    write_review(tmp_path / "review.html", reviews.usual())
    write_review(tmp_path / "review.html", json.loads(json.dumps(reviews.usual())), language="zh")
    assert [path.name for path in tmp_path.iterdir()] == ["review.html"]
    written = (tmp_path / "review.html").read_text(encoding="utf8")
    assert written == review(reviews.usual(), "zh")
    assert "<title>模型错在哪里" in written


@pytest.mark.parametrize("text", ["ab " * 300_000, "\u202e" * 1_000_000])
def test_megabytes_wherever_a_text_stands_make_a_small_file(text):
    assert len(review(reviews.of_text(text))) < 1_500_000


def test_a_text_of_megabytes_and_a_thousand_cases_make_a_small_file():
    long = case("bad " * 1_000_000, attribution=None, neighbors=None)
    assert len(review(report([long], [group("composition", "bad", [long])]))) < 60_000
    cases = [case(index=i, cause=("composition", "coverage")[i % 2], cue=f"word {i % 90}") for i in range(1000)]
    edits = tuple(RowEdit("train", i, "negative", "positive", "a text " * 100, 0.5) for i in range(1000))
    kinds = dict.fromkeys((each.cause, each.cue) for each in cases)
    groups = [group(*kind, [each for each in cases if (each.cause, each.cue) == kind]) for kind in kinds]
    groups[0] = replace(groups[0], action=Action("relabel", "!", edits))
    page = review(report(cases, groups, predictions(cases, right=500)))
    assert len(page) < 2_500_000
    for more in (
        "50 more groups are",
        "950 more rows are",
        "8 more are",
        "8 more texts of this group",
        "Show 1,000 texts",
    ):
        assert f">{more}" in page


def test_many_labels_are_summed_up():
    rows = [row | {"gold": f"class {i % 70}"} for i, row in enumerate(predictions([], right=140))]
    assert "20 more labels are left out here." in read(review(report([], [], rows))).text


def test_a_group_that_is_followed_says_how_it_went():
    grown = replace(GROUP, sizes=((1, 2), (2, 12)), status="growing")
    assert "There were fewer at the check before." in said([CASE], [grown])
    assert "at the check before" not in said([CASE], [replace(grown, sizes=((2, 12),))])
