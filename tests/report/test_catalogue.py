"""Catalogues of sentences: every key in both languages, placeholders, plurals, and files of other languages."""

import json
import re
import warnings

import pytest
from records import NASTY

from lightning_interpret.report import catalogue
from lightning_interpret.report.catalogue import BUILT_IN, Html, Share, Voices, built_in, catalogues_of, said
from lightning_interpret.report.plurals import category

EN, ZH = built_in("en"), built_in("zh")


def _plain(html):
    return re.sub(r"<[^>]*>", "", html)


def _file(folder, said_there, **head):
    path = folder / "fr.json"
    path.write_text(json.dumps({"code": "fr", "name": "Français", "sentences": said_there} | head), encoding="utf8")
    return str(path)


def _whole():
    return json.loads(json.dumps(dict(EN.sentences)))


def test_both_languages_have_every_sentence_and_no_other():
    assert list(EN.sentences) == list(ZH.sentences)
    figures = {"format.percent", "format.thousands", "value.count", "value.share", "word.quoted", "label.name"}
    for key in EN.sentences.keys() - figures:
        assert re.search("[\u3001\u4e00-\u9fff]", str(ZH.sentences[key])), key


@pytest.mark.parametrize("code", BUILT_IN)
def test_every_sentence_can_be_said_with_any_count(code):
    values = {name: Html(name) for name in re.findall(r"\{(\w+)\}", json.dumps(EN.sentences))}
    for key in EN.sentences:
        for count in (0, 1, 2, 5, 1000):
            spoken = built_in(code).html(said(key, **values | {"count": count}))
            assert "{" not in spoken
            assert "span" not in spoken


def test_one_and_many_are_told_apart_where_the_language_does():
    assert EN.html(said("group.size", count=1)) == "It concerns one text."
    assert EN.html(said("group.size", count=1234)) == "It concerns 1,234 texts."
    assert ZH.html(said("group.size", count=1)) == "涉及 1 条文本。"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("en", "other one other other other other"),
        ("de", "other one other other other other"),
        ("zh", "other other other other other other"),
        ("zh-Hant", "other other other other other other"),
        ("fr", "one one other other other other"),
        ("ru", "many one few many one many"),
        ("pl", "many one few many many many"),
        ("cs", "other one few other other other"),
        ("ar", "zero one two few many many"),
        ("hr", "other one few other one other"),
        ("he", "other one two other other other"),
    ],
)
def test_plural_categories_are_those_of_cldr(code, expected):
    assert " ".join(category(code, n) for n in (0, 1, 2, 5, 21, 111)) == expected


def test_shares_are_not_rounded_to_all_or_none():
    assert [EN.html(said("value.share", share=Share(x))) for x in (0, 0.001, 0.5, 0.999, 1, None)] == [
        "0%", "&lt;1%", "50%", "&gt;99%", "100%", "–",
    ]  # fmt: skip


def test_words_are_listed_as_the_language_does():
    words = [said("word.quoted", text=Html(name)) for name in "abc"]
    assert EN.html(said("case.mainly", words=words)) == "It said so mainly because of “a”, “b” and “c”."
    assert ZH.html(said("case.mainly", words=words)) == "它这样回答，主要是因为“a”、“b”和“c”。"
    assert EN.html(said("case.mainly", words=words[:1])) == "It said so mainly because of “a”."


@pytest.mark.parametrize("text", [*NASTY, "<script>alert(1)</script>", "{count}"])
def test_a_text_in_a_sentence_is_literal(text):
    shown = EN.html(said("cause.other.title", cause=text))
    assert shown.startswith("Another cause: <bdi")
    assert shown.count("<") == 2
    assert "\u202e" not in shown


def test_what_a_file_lacks_is_said_in_english_and_warned_of_once(tmp_path):
    path = _file(tmp_path, {"group.do": "Que faire", "unknown.key": "?"})
    with pytest.warns(UserWarning, match=r"has no 'format.percent', .* and \d+ more, said in English and has 'unknown"):
        found = catalogues_of(path)
    assert [each.code for each in found] == ["fr", "en", "zh"]
    assert found[0].html(said("group.do")) == "Que faire"
    assert found[0].html(said("group.examples")) == '<span lang="en" dir="ltr">Examples</span>'
    assert found[0].text("page.title") == EN.text("page.title")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Voices(found)("group.examples")
        catalogues_of(_file(tmp_path, _whole()))


def test_a_file_of_a_language_that_is_there_replaces_it(tmp_path):
    found = catalogues_of(_file(tmp_path, _whole() | {"group.do": "Do this"}, code="en", name="My English"))
    assert [(each.code, each.name) for each in found] == [("en", "My English"), ("zh", "中文")]


@pytest.mark.parametrize(
    ("sentence", "message"),
    [
        ("Il concerne {nombre} textes.", r"'group.size' the placeholders \{nombre\}: it needs \{count\}"),
        ("Il concerne des textes.", "'group.size' the placeholders none"),
        ("Il concerne {count} {cue}.", "'group.size' the placeholders"),
        ({"one": "Un texte."}, "'group.size' neither a text nor texts by plural category"),
        ({"single": "Un texte.", "other": "{count} textes"}, "'group.size' neither"),
        (["a"], "'group.size' neither"),
        (3, "'group.size' neither"),
        ({"other": 3}, "'group.size' no sentence"),
        ("{count", "'group.size' no sentence"),
        ("{count!r}", "'group.size' no sentence"),
        ("{count:>99999999}", "'group.size' no sentence"),
        ("{count.__class__}", "'group.size' no sentence"),
        ("{}", "'group.size' no sentence"),
    ],
)
def test_wrong_placeholders_are_refused_with_the_key(tmp_path, sentence, message):
    with pytest.raises(ValueError, match=message):
        catalogue.read(_file(tmp_path, _whole() | {"group.size": sentence}))


def test_one_may_be_said_without_its_number(tmp_path):
    forms = {"one": "Un texte est concerné.", "other": "{count} textes sont concernés."}
    found = catalogue.read(_file(tmp_path, _whole() | {"group.size": forms}))
    assert found.html(said("group.size", count=0)) == "Un texte est concerné."
    assert found.html(said("group.size", count=3)) == "3 textes sont concernés."


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"code": 'x"><script>'}, "`code`"), ({"code": None}, "`code`"), ({"name": " "}, "`name`"),
        ({"direction": "up"}, "`direction`"), ({"sentences": []}, "has to be an object"),
    ],
)  # fmt: skip
def test_a_file_with_a_wrong_head_is_refused(tmp_path, head, message):
    with pytest.raises(ValueError, match=message):
        catalogue.read(_file(tmp_path, {}, **head))


def test_a_language_that_is_not_there_and_a_file_that_is_no_json_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`language` is 'fr': give one of 'en', 'zh', or the path of a catalogue"):
        catalogues_of("fr")
    with pytest.raises(FileNotFoundError):
        catalogues_of(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_bytes(b'{"code": "\xff')
    with pytest.raises(ValueError, match="is not JSON in UTF-8"):
        catalogues_of(str(tmp_path / "bad.json"))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="has to be an object"):
        catalogues_of(str(tmp_path / "list.json"))


def test_markup_in_a_catalogue_is_no_markup(tmp_path):
    evil = _whole() | {"group.do": "<script>alert(1)</script>\u202e", "format.thousands": "<b>"}
    found = catalogue.read(_file(tmp_path, evil))
    assert found.html(said("group.do")) == "&lt;script&gt;alert(1)&lt;/script&gt;\\u202e"
    assert "<b>" not in found.html(said("group.size", count=12345))


def test_a_sentence_is_one_element_a_language():
    shown = Voices([EN, ZH])("group.do")
    english, chinese = shown.split("</span>")[:2]
    assert english == '<span class="t t-en" lang="en" dir="ltr">What to do'
    assert chinese == '<span class="t t-zh" lang="zh" dir="ltr">怎么办'
    assert _plain(shown) == "What to do怎么办"
