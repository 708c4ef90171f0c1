import json
import math
import random
from dataclasses import replace

import pytest
from PIL import Image
from records import NASTY, arbitrary_row, image_row, row
from tensorboard.compat.proto import summary_pb2, types_pb2

from lightning_interpret.explanations import AttributionRow
from lightning_interpret.report.interpret_summary import join, payloads, summary, tag
from lightning_interpret.report.uri import decoded, encoded


def _pages(sample, **options):
    return payloads(sample, monitor="saliency", step=7, probe=3, **options)


@pytest.mark.parametrize("limit", [2500, 10_000, 65536])
@pytest.mark.parametrize("seed", range(12))
def test_pages_are_bounded_and_restore_the_row(seed, limit):
    sample = arbitrary_row(seed, size=120)
    pages = _pages(sample, limit=limit)
    assert all(len(page.encode()) <= limit for page in pages)
    random.Random(seed).shuffle(pages)
    assert join(pages) == sample


def test_twenty_thousand_tokens_come_back():
    rng = random.Random(0)
    ids = [i // 3 for i in range(20_000)]
    sample = replace(
        row(),
        tokens=tuple(rng.choice(NASTY[:-1]) for _ in ids),
        scores=tuple(rng.gauss(0, 1) for _ in ids),
        word_ids=tuple(ids),
        words=tuple(f"wört{i}" for i in range(max(ids) + 1)),
        special=(False,) * len(ids),
        offsets=tuple((i, i + 2) for i in range(len(ids))),
        segment=tuple(i % 2 for i in range(len(ids))),
    )
    pages = _pages(sample)
    assert len(pages) > 1
    assert max(len(page.encode()) for page in pages) <= 65536
    assert join(pages) == sample


def test_each_page_is_a_row_of_its_own():
    sample = row([f"w{i}" for i in range(500)])
    parsed = [json.loads(page) for page in _pages(sample, limit=4000)]
    windows = [AttributionRow.from_dict(page["records"][0]) for page in parsed]
    assert [w.text for window in windows for w in window.merged()] == [w.text for w in sample.merged()]
    assert [page["page"] for page in parsed] == list(range(1, len(parsed) + 1))
    start = 0
    for page, window in zip(parsed, windows, strict=True):
        assert page["records"][0]["offset"] == start
        assert len(window.words) <= len(window.tokens)
        start += len(window.tokens)


def test_a_row_that_fits_is_one_page():
    (page,) = _pages(row())
    data = json.loads(page)
    assert data.pop("records") == [row().to_dict()]
    assert data == {
        "schema": 1, "kind": "attribution", "monitor": "saliency", "step": 7, "probe": 3, "page": 1, "pages": 1,
    }  # fmt: skip


def test_numbers_that_are_not_finite_are_json():
    (page,) = _pages(row("a b", scores=[math.nan, math.inf], target=math.nan))
    restored = join([page])
    assert math.isnan(restored.target)
    assert math.isnan(restored.scores[1])


def test_missing_and_foreign_pages_are_refused():
    pages = _pages(row([f"w{i}" for i in range(500)]), limit=4000)
    other = payloads(row([f"w{i}" for i in range(500)]), monitor="saliency", step=8, probe=3, limit=4000)
    for wrong in ([], pages[1:], pages[:-1], pages + pages[:1], [*pages[:-1], other[-1]]):
        with pytest.raises(ValueError, match="Expected every page of one row"):
            join(wrong)


def test_a_token_larger_than_a_page_is_refused():
    with pytest.raises(ValueError, match="Token 1 does not fit on a page"):
        _pages(row(["x" * 70_000]))


def test_tags():
    assert tag("saliency", 4) == "interpret/saliency/probe_4"
    assert tag("saliency", 4, page=3) == "interpret/saliency/probe_4/page_3"


def test_summary_is_a_scalar_string_of_our_plugin():
    (value,) = summary("some/tag", '{"ü": 1}', "says").value
    assert value.tag == "some/tag"
    assert value.metadata.plugin_data.plugin_name == "interpret"
    assert json.loads(value.metadata.plugin_data.content) == {"version": 1, "kind": "attribution"}
    assert value.metadata.data_class == summary_pb2.DATA_CLASS_TENSOR
    assert value.metadata.summary_description == "says"
    assert value.tensor.dtype == types_pb2.DT_STRING
    assert len(value.tensor.tensor_shape.dim) == 0
    assert list(value.tensor.string_val) == ['{"ü": 1}'.encode()]


@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize("grid", [(224, 224), (14, 14), (7, 300), (640, 480)])
def test_an_image_is_one_page_with_its_scores_summed_and_a_thumbnail(grid, before):
    rng = random.Random(0)
    scores = [rng.gauss(0, 1) for _ in range(grid[0] * grid[1])]
    sample = image_row(grid, scores, before=before, after=2)
    sample = replace(sample, unit_errors=sample.scores)
    (page,) = _pages(sample)
    (record,) = json.loads(page)["records"]
    shown = join([page])
    assert max(shown.grid) <= 28
    assert record["full_grid"] == list(grid)
    assert all(math.ceil(n / by) == m for n, by, m in zip(grid, record["pooled"], shown.grid, strict=True))
    assert sum(shown.scores) == pytest.approx(sum(sample.scores), abs=1e-9)
    assert shown.unit_errors == shown.scores
    assert shown.special == (*[True] * before, *[False] * (shown.grid[0] * shown.grid[1]), True, True)
    assert shown.locations().outside == sample.locations().outside
    assert shown.locations().scores == sample.locations().pool().scores
    assert decoded(shown.image).size == (112, 84)


def test_a_small_image_is_the_row_but_for_its_picture():
    (page,) = _pages(image_row())
    assert replace(join([page]), image=None) == image_row(picture=None)


def test_a_picture_that_does_not_fit_is_smaller_or_left_out():
    noise = Image.frombytes("RGB", (224, 224), random.Random(0).randbytes(224 * 224 * 3))
    sample, sides = image_row(picture=encoded(noise, 224)), []
    for limit in (65536, 8000, 4000, 1800):
        (page,) = _pages(sample, limit=limit)
        assert len(page) <= limit
        picture = decoded(join([page]).image)
        sides.append(picture.width if picture else 0)
    assert sides[0] == 112
    assert sides == sorted(sides, reverse=True)
    assert sides[-1] == 0
    with pytest.raises(ValueError, match="image does not fit on a page"):
        _pages(sample, limit=500)


def test_the_errors_of_units_are_cut_as_their_scores_are():
    sample = replace(row(["w"] * 3000), unit_errors=tuple(i / 3 for i in range(3002)))
    pages = _pages(sample)
    assert len(pages) > 1
    assert join(pages) == sample
