"""The records: immutable, detached, JSON both ways, readable."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest
import torch
from tiny import Bag, bag_task, batch_of

from lightning_interpret import Attribution, AttributionRow, Gradient, GradientTimesInput, IntegratedGradients
from lightning_interpret.explanations import Units

ROW = AttributionRow(
    tokens=("[CLS]", "play", "##er", "was", "[SEP]"),
    scores=(0.1, 0.3, -0.1, 0.05, 0.0),
    target=1.5,
    target_name="good",
    output="logit",
    method="integrated_gradients",
    layer="embedding",
    prediction="good",
    gold="bad",
    example_id=7,
    baseline="pad",
    baseline_target=1.0,
    error=-0.15,
    relative_error=0.3,
    partial_error=0.02,
    error_floor=0.01,
    steps=16,
    gradients=16,
    forwards=2,
    converged=False,
    cut=True,
    word_ids=(None, 0, 0, 1, None),
    words=("player", "was"),
    special=(True, False, False, False, True),
    offsets=((0, 0), (0, 4), (4, 6), (7, 10), (0, 0)),
    segment=(0, 0, 0, 1, 1),
    notes=("cut to 5 of 9 tokens",),
    reasons={"x": "because"},
)


def record_of(method=None, texts=("the player was not bad", "a dull film ."), **options):
    task = bag_task()
    return (method or IntegratedGradients())(Bag(), batch_of(task.tokenizer, texts, **options), task)


def there_and_back(thing):
    return type(thing).from_dict(json.loads(json.dumps(thing.to_dict(), allow_nan=False)))


def same(first, second):
    """Equal rows, NaN at the same places."""
    for f in fields(AttributionRow):
        a, b = getattr(first, f.name), getattr(second, f.name)
        assert a == b or repr(a) == repr(b), f.name


# JSON


def test_a_row_comes_back():
    assert there_and_back(ROW) == ROW
    assert there_and_back(ROW).to_dict() == ROW.to_dict()


@pytest.mark.parametrize("name", [f.name for f in fields(AttributionRow) if f.default is None])
def test_a_field_that_is_none_comes_back_as_none(name):
    row = replace(ROW, **{name: None})
    assert there_and_back(row) == row


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_become_none_and_come_back_as_none_or_nan(bad):
    row = replace(ROW, scores=(0.1, bad, 0.2, bad, 0.0), target=bad, error=bad, relative_error=bad)
    written = row.to_dict()
    assert written["scores"] == [0.1, None, 0.2, None, 0.0]
    assert written["target"] is written["error"] is written["relative_error"] is None
    back = there_and_back(row)
    assert [math.isnan(score) for score in back.scores] == [False, True, False, True, False]
    assert math.isnan(back.target)
    assert back.error is None
    assert str(back)


@pytest.mark.parametrize(
    "method", [IntegratedGradients(), IntegratedGradients(tolerance=None), GradientTimesInput(), Gradient()]
)
@pytest.mark.parametrize("options", [{}, {"labels": [0, 2], "example_ids": [5, 6]}])
def test_a_record_of_several_lengths_comes_back(method, options):
    record = record_of(method, **options)
    back = there_and_back(record)
    assert len(back) == len(record) == 2
    assert [len(row.tokens) for row in back] == [8, 6]
    for row, other in zip(record, back, strict=True):
        same(row, other)
    torch.testing.assert_close(back.scores, record.scores.double(), rtol=0, atol=0)
    assert back.to_dict() == record.to_dict()


def test_left_padding_is_stripped_and_comes_back_on_the_right():
    task = bag_task()
    task.tokenizer.padding_side = "left"
    record = IntegratedGradients()(Bag(), batch_of(task.tokenizer, ["the player was not bad", "a dull film ."]), task)
    assert record.units.padding[1].tolist() == [True, True, *[False] * 6]
    assert record[1].tokens == ("[CLS]", "a", "dull", "film", ".", "[SEP]")
    back = there_and_back(record)
    assert back.units.padding[1].tolist() == [*[False] * 6, True, True]
    same(record[1], back[1])


def test_a_record_with_numbers_that_are_not_finite_comes_back():
    record = record_of()
    spoilt = replace(
        record, scores=record.scores * math.nan, error=torch.tensor([0.1, math.nan]), target=torch.tensor([math.inf, 1])
    )
    back = there_and_back(spoilt)
    assert bool(back[0].scores[1] != back[0].scores[1])
    assert back.error[0] == pytest.approx(0.1)
    assert math.isnan(float(back.error[1]))
    assert math.isnan(float(back.target[0]))


@pytest.mark.parametrize("known", [[0], [1], [0, 1]])
def test_rows_of_which_some_lack_a_number_make_a_record(known):
    """Whole numbers too: of two rows read from a file, one may be from a run that did not count."""
    rows = [replace(ROW, steps=16 if i in known else None, error=0.5 if i in known else None) for i in range(2)]
    record = Attribution.from_rows(rows)
    assert [i for i in range(2) if not math.isnan(float(record.error[i]))] == known
    assert [i for i in range(2) if not math.isnan(float(record.steps[i]))] == known


def test_rows_of_which_some_are_pairs_make_a_record():
    rows = [replace(ROW, segment=None), ROW]
    for order in (rows, rows[::-1]):
        record = Attribution.from_rows(order)
        assert len(record) == 2
        assert [row.segment for row in record if row.segment is not None and any(row.segment)] == [ROW.segment]


@pytest.mark.parametrize(
    "data", [{}, {"kind": "influence", "schema": 1}, {"kind": "attribution", "schema": 2}, {"kind": "attribution"}]
)
def test_records_of_another_kind_or_of_a_later_version_are_refused(data):
    with pytest.raises(ValueError, match="Expected a record of kind 'attribution' and schema at most 1"):
        AttributionRow.from_dict(data)


@pytest.mark.parametrize("data", [{}, {"kind": "attribution"}, {"kind": "attributions", "rows": []}])
def test_what_is_no_record_is_refused(data):
    with pytest.raises(ValueError, match="Expected a record of kind 'attributions' with rows"):
        Attribution.from_dict(data)


def test_fields_of_a_later_minor_version_are_ignored():
    assert AttributionRow.from_dict(ROW.to_dict() | {"colour": "red"}) == ROW


def test_json_says_its_schema_and_kind():
    assert {"schema": 1, "kind": "attribution"}.items() <= ROW.to_dict().items()
    whole = record_of().to_dict()
    assert (whole["schema"], whole["kind"], len(whole["rows"])) == (1, "attributions", 2)


# Immutable and detached


def test_records_cannot_be_changed():
    record = record_of()
    for thing, name in [
        (record, "scores"),
        (record, "new"),
        (record[0], "target"),
        (record.units, "texts"),
        (ROW, "scores"),
    ]:
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, 0)


def test_a_record_does_not_follow_later_changes_of_the_tensors():
    scores = torch.ones(1, 3, requires_grad=True)
    held = {name: torch.ones(1) for name in ("target", "baseline_target", "error", "relative_error")}
    counts = {name: torch.ones(1, dtype=torch.long) for name in ("gradients", "forwards", "steps")}
    record = Attribution(
        scores=scores,
        target_name=("a",),
        output="logit",
        method="gradient",
        layer="x",
        units=Units.features(1, 3),
        prediction=("a",),
        **held,
        **counts,
    )
    with torch.no_grad():
        for tensor in (scores, *held.values(), *counts.values()):
            tensor.zero_()
    assert not record.scores.requires_grad
    assert record[0].scores == (1, 1, 1)
    assert all(getattr(record, name).tolist() == [1] for name in (*held, *counts))


def test_a_record_does_not_follow_later_changes_of_the_batch():
    task = bag_task()
    batch = batch_of(task.tokenizer, ["a dull film", "good"])
    batch["token_type_ids"] = torch.ones_like(batch["input_ids"])
    record = IntegratedGradients()(Bag(), batch, task)
    before = record.to_dict()
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.fill_(0)
    assert record.to_dict() == before


# Rows


def test_rows_are_reached_by_their_number():
    record = record_of()
    assert record[-1] == record[1]
    assert [row.tokens for row in record] == [record[0].tokens, record[1].tokens]
    for row in (2, -3):
        with pytest.raises(IndexError):
            record[row]


def test_a_row_is_plain_python():
    row = record_of(labels=[1, 2], example_ids=[3, 4])[1]
    for f in fields(row):
        assert not isinstance(getattr(row, f.name), torch.Tensor), f.name
    assert row.tokens == ("[CLS]", "a", "dull", "film", ".", "[SEP]")
    assert row.words == ("a", "dull", "film", ".")
    assert row.special == (True, False, False, False, False, True)
    assert row.offsets == ((0, 0), (0, 1), (2, 6), (7, 11), (12, 13), (0, 0))
    assert (row.gold, row.example_id, row.units) == ("good", 4, "token")
    assert row.segment is None


def test_merged_words():
    assert [(word.text, word.special) for word in ROW.merged()] == [
        ("[CLS]", True),
        ("player", False),
        ("was", False),
        ("[SEP]", True),
    ]
    assert [word.score for word in ROW.merged()] == pytest.approx([0.1, 0.2, 0.05, 0.0])


def test_a_row_of_tokens_alone_can_be_shown():
    """All but the first seven fields have defaults: what they leave out is no reason to fail."""
    row = AttributionRow(
        tokens=("a", "b"), scores=(1.0, -1.0), target=0.0, target_name="x", output="logit", method="gradient", layer="e"
    )
    assert [(word.text, word.score) for word in row.merged()] == [("a", 1), ("b", -1)]
    assert "a +1  b -1" in str(row)
    assert row._repr_html_()
    assert len(Attribution.from_rows([row, row])) == 2


# Reading


def test_str_says_everything_that_matters():
    shown = str(ROW)
    for part in (
        "integrated_gradients of logit of 'good' = +1.5",
        "baseline pad = +1",
        "error -0.15 (30.00%, partial 2.00%, NOT converged)",
        "16 steps",
        "predicted 'good', gold 'bad'",
        "first: [CLS] +0.1  player +0.2\nsecond: was +0.05  [SEP] +0",
        "x is not given: because",
        "cut to 5 of 9 tokens",
    ):
        assert part in shown
    assert "NOT converged" not in str(replace(ROW, converged=True))
    assert "NOT converged" not in str(replace(ROW, converged=None))
    assert "error" not in replace(ROW, error=None).summary()


def test_str_of_a_record_is_that_of_its_rows():
    record = record_of()
    assert str(record).split("\n\n") == [str(row) for row in record]


def test_html_escapes_markup():
    row = replace(
        ROW,
        tokens=("<script>", '"&', "a"),
        scores=(0.5, -0.5, 0.0),
        word_ids=(0, 1, 2),
        words=("<script>", '"&', "a"),
        prediction="<b>bold</b>",
        target_name="<i>",
    )
    html = row._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html
    assert "&amp;" in html


def test_html_of_scores_that_are_all_zero_or_not_finite():
    assert "NaN" not in replace(ROW, scores=(0.0,) * 5)._repr_html_()
    for bad in (math.nan, math.inf):
        assert "player" in replace(ROW, scores=(0.1, bad, 0.0, -0.2, 0.0))._repr_html_()


def test_html_of_a_record_has_each_row():
    record = record_of()
    assert record._repr_html_() == record[0]._repr_html_() + record[1]._repr_html_()


# Units


def test_units_are_gathered_with_their_rows():
    task = bag_task()
    units = task.units(batch_of(task.tokenizer, ["the player was not bad", "a dull film ."]))
    taken = units.take(torch.tensor([1, 1, 0]))
    assert [texts[1] for texts in taken.texts] == ["a", "a", "the"]
    assert taken.padding.tolist() == [units.padding[i].tolist() for i in (1, 1, 0)]
    assert taken.words == (units.words[1], units.words[1], units.words[0])
    assert taken.offsets[2] == units.offsets[0]


def test_units_of_features():
    units = Units.features(2, 3)
    assert units.texts == (("0", "1", "2"),) * 2
    assert (units.kind, units.shape) == ("feature", (3,))
    assert not units.padding.any()


# Images


def image_record(before=1):
    units = Units.locations(2, (2, 3), before=before, images=("data:image/png;base64,AA==", None))
    numbers = torch.arange(12 + 2 * before, dtype=torch.float64).reshape(2, -1)
    return Attribution(
        scores=numbers,
        target=torch.tensor([1.0, 2.0]),
        target_name=("circle", "cross"),
        output="logit",
        method="layerwise_relevance",
        layer="encoder",
        units=units,
        gradients=torch.ones(2, dtype=torch.long),
        forwards=torch.ones(2, dtype=torch.long),
        prediction=("circle", "cross"),
        attribution_target=torch.tensor([20.0, 70.0]),
        unit_errors=numbers / 10,
        absorbed=({"bias": 0.5}, {"bias": -0.25}),
        sampling_error=torch.tensor([0.5, 0.25]),
        baseline_spread=torch.tensor([1.0, 2.0]),
        baseline_entropy=torch.tensor([1.0, 0.5]),
        box=((0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 1.0, 1.0)),
    )


def test_locations_are_special_outside_their_grid():
    units = Units.locations(1, (2, 3), before=1, after=2)
    assert units.shape == (9,)
    assert units.special.tolist() == [[True, *[False] * 6, True, True]]
    assert units.take(torch.tensor([0, 0])).special.shape == (2, 9)


def test_the_record_of_an_image_survives_json():
    record = image_record()
    back = Attribution.from_dict(json.loads(json.dumps(record.to_dict())))
    assert back.to_dict() == record.to_dict()
    assert torch.equal(back.unit_errors, record.unit_errors)
    row = back[1]
    assert (row.grid, row.image, row.box) == ((2, 3), None, (0.25, 0.25, 1.0, 1.0))
    assert back[0].image == "data:image/png;base64,AA=="
    assert (row.tokens, row.merged()) == ((), [])
    assert row.special == (True, *[False] * 6)
    assert (row.absorbed, row.attribution_target, row.sampling_error) == ({"bias": -0.25}, 70, 0.25)
    assert "absorbed: bias -0.25" in str(row)
    assert "logit of 'cross' in the box (0.25, 0.25)–(1.00, 1.00) = +2" in str(row)


def test_where_every_unit_is_a_location_none_is_said_to_be_special():
    record = image_record(before=0)
    back = Attribution.from_dict(json.loads(json.dumps(record.to_dict())))
    assert record[0].to_dict()["special"] == []
    assert back.to_dict() == record.to_dict()
    assert torch.equal(back.units.special, record.units.special)
    assert back[1].locations().scores == record[1].scores


def test_rows_of_one_record_share_a_grid():
    first, second = image_record()[0], replace(image_record()[1], grid=(3, 2))
    with pytest.raises(ValueError, match="Rows of one record share a grid"):
        Attribution.from_rows([first, second])
