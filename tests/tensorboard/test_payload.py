import json
import random

import pytest
import torch
from records import arbitrary_row, image_row, row

from lightning_interpret.functional import agreement
from lightning_interpret.report.interpret_summary import payloads, tag
from lightning_interpret.tensorboard.payload import drift, facts, join, page_of, parse, probe_of


def _pages(sample, limit=65536, step=7):
    return [parse(page) for page in payloads(sample, monitor="saliency", step=step, probe=3, limit=limit)]


def _of(**record):
    return {"schema": 1, "kind": "attribution", "page": 1, "pages": 1, "records": [record]}


def test_tags_of_pages_lead_to_the_first():
    assert page_of(tag("saliency", 4)) == (tag("saliency", 4), 1)
    assert page_of(tag("saliency", 4, page=12)) == (tag("saliency", 4), 12)
    assert page_of("anything/page_2") == ("anything/page_2", 1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("interpret/saliency/probe_0", ("saliency", 0)),
        ("interpret/a/b c/probe_17", ("a/b c", 17)),
        ("interpret/saliency", ("interpret/saliency", None)),
        ("mine", ("mine", None)),
        ("interpret/saliency/probe_" + "9" * 5000, ("interpret/saliency/probe_" + "9" * 5000, None)),
    ],
)
def test_a_tag_says_its_monitor_and_probe(name, expected):
    assert probe_of(name) == expected


@pytest.mark.parametrize("seed", range(8))
def test_pages_in_any_order_are_the_record_that_was_written(seed):
    sample = arbitrary_row(seed, size=120)
    pages = _pages(sample, limit=2500)
    random.Random(seed).shuffle(pages)
    joined = join(pages)
    assert joined["records"] == [json.loads(json.dumps(sample.to_dict()))]
    assert (joined["page"], joined["pages"], joined["step"]) == (1, 1, 7)


def test_records_that_are_no_windows_follow_each_other_whatever_they_are():
    head = {"schema": 1, "kind": "mine", "step": 1, "pages": 2}
    for first, second in (({"offset": 3}, {"offset": 4}), ("offset", "offset"), (1, None), ([], {})):
        pages = [head | {"page": 2, "records": [second]}, head | {"page": 1, "records": [first]}]
        assert join(pages)["records"] == [first, second]


def test_a_payload_that_says_nothing_of_pages_is_one_page():
    assert join([{"records": [1, 2]}]) == {"records": [1, 2]}


@pytest.mark.parametrize("pages", [10**12, -1, "2", None, 1.5, [1]])
def test_a_number_of_pages_that_cannot_be_is_refused_at_once(pages):
    with pytest.raises((ValueError, TypeError)):
        join([{"page": 1, "pages": pages, "records": []}])


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"records": 1}', '{"records": {}}', "[" * 100_000, '{"a": 1}'])
def test_what_is_no_payload_is_refused_with_the_reason(text):
    with pytest.raises(ValueError, match="The payload is not"):
        parse(text)


@pytest.mark.parametrize("number", [0, -7, 2**53, -(2**53)])
def test_an_integer_that_a_browser_would_round_is_a_text(number):
    far = number + (3 if number >= 0 else -3) * 2**53
    page = parse(f'{{"records": [{{"example_id": {number}, "far": {far}, "score": {number}.5e0}}]}}')
    assert page["records"][0] == {"example_id": number, "far": str(far), "score": float(f"{number}.5")}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000])
def test_numbers_that_no_reader_could_hold_are_nothing(number):
    page = parse(f'{{"records": [{{"scores": [1.5, {number}], "target": {number}}}]}}')
    assert page["records"] == [{"scores": [1.5, None], "target": None}]
    json.dumps(facts(page), allow_nan=False)
    assert drift(page, page) is None


@pytest.mark.parametrize("seed", range(20))
def test_the_largest_word_is_that_of_the_record(seed):
    sample = arbitrary_row(seed)
    words = [abs(word.score) for word in sample.merged() if not word.special]
    (page,) = _pages(sample)
    assert facts(page).get("largest") == (pytest.approx(max(words)) if words else None)


def test_a_word_whose_first_token_has_no_number_is_left_out_of_the_largest():
    assert facts(_of(scores=[None, 2.0, 1.0], word_ids=[0, 0, 1]))["largest"] == 1.0
    assert facts(_of(scores=[5.0, None, 1.0], word_ids=[0, 0, 1]))["largest"] == 1.0
    assert "largest" not in facts(_of(scores=[None, None], word_ids=[0, 0]))
    assert "largest" not in facts(_of(scores=[1e308, 1e308], word_ids=[0, 0]))


def test_facts_are_short_and_name_what_a_line_needs():
    (page,) = _pages(row("good bad " * 200, example_id=4, prediction="x" * 5000))
    found = facts(page)
    assert (found["example_id"], found["target_name"], found["gold"]) == (4, "positive", "positive")
    assert len(json.dumps(found)) < 2000
    assert found["text"].startswith("good bad good")
    assert found["prediction"].endswith("…")
    assert len(found["prediction"]) == 200


@pytest.mark.parametrize("record", [{}, 1, None, "x", [], {"tokens": 3, "scores": "no", "words": "text"}])
def test_records_of_any_form_have_facts(record):
    payload = {"records": [record]}
    assert "largest" not in facts(payload)
    assert drift(payload, payload) is None
    assert facts({"records": []}) == {}


def test_a_field_of_a_record_is_not_taken_for_what_the_tab_says_of_it():
    assert facts(_of(problem="in the text", drift=3, largest=9, note="kept")) == {"note": "kept"}


@pytest.mark.parametrize("seed", range(20))
def test_drift_is_that_of_the_monitor(seed):
    sample = arbitrary_row(seed)
    rng = random.Random(seed)
    scores = [rng.choice((0.0, rng.gauss(0, 1))) for _ in sample.tokens]
    (now,) = _pages(sample)
    expected = agreement.drift(torch.tensor(sample.scores), torch.tensor(scores)).item()
    assert drift(now, _of(scores=scores)) == pytest.approx(expected, abs=1e-6)


def test_drift_of_nothing_and_of_what_does_not_compare():
    zeros, ones = _of(scores=[0.0, 0.0]), _of(scores=[1.0, 1.0])
    assert (drift(zeros, zeros), drift(zeros, ones), drift(ones, ones)) == (0.0, 1.0, pytest.approx(0))
    assert drift(ones, _of(scores=[-3.0, -3.0])) == pytest.approx(2)
    assert drift(ones, _of(scores=[1.0])) is None
    assert drift(ones, _of(scores=[1.0, None])) is None
    assert drift(ones, _of(scores=[[1.0], [2.0]])) is None
    assert drift(_of(scores=[1e308] * 3), _of(scores=[1e-308] * 3)) >= 0


def test_the_facts_of_an_image_leave_out_its_picture_and_what_has_no_location():
    (page,) = _pages(image_row(scores=[0.25] * 11 + [-0.375], before=1))  # 0.5 outside the grid
    found = facts(page)
    assert (found["text"], found["largest"], found["prediction"]) == ("Image", 0.375, "positive")
    assert "image" not in found
    assert drift(page, page) == pytest.approx(0)
