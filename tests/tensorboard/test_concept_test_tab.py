"""Concept tests in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from concept_records import four, of_one, of_text, table

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)> \u202eevil **x**"


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Show a probe: ``shown(3)`` returns the frame."""
    folder = tmp_path_factory.mktemp("runs")
    with boards.Events(folder / "run") as events:
        for step in (10, 20):
            events.row(of_one(loss=1 / step), name="concepts", probe=0, step=step)
            events.row(table(tests=four()[: step // 10]), name="concepts", probe=1, step=step)
        events.row(of_text(MARKUP), name="concepts", probe=2, step=10)
        events.row(of_text(MARKUP, one=False), name="concepts", probe=3, step=10)
        bare = boards.payload([{}, {"tests": [{}]}, {"tests": [{}], "target_name": "a"}], kind="concept_test")
        events.text("interpret/concepts/probe_4", 10, bare, content=b'{"kind": "concept_test"}')
        events.row(table(tests=four()[:1] * 40), name="concepts", probe=5, step=10)
    where = tab.hash_of("interpret/concepts/probe_0", "run")
    with (
        boards.browser() as chromium,
        boards.served(folder, "--reload_interval", "0") as address,
        tab.opened(chromium, address, where) as (_, frame),
    ):

        def show(probe):
            frame.locator(".group[aria-label='run · concepts'] .option").nth(probe).click()
            frame.wait_for_selector(f".bar .title:has-text('{probe}')")
            frame.wait_for_selector(".body[aria-busy=false]")
            return frame

        yield show


def _rows(frame, title):
    found = frame.locator(".evidence", has=frame.locator(f"h2:text-is('{title}')"))
    return [" ".join(row.split()) for row in found.locator("tbody tr").all_inner_texts()]


def test_one_example_shows_the_derivatives_and_the_tests_beside(shown):
    frame = shown(0)
    assert "more of 'praise' would raise it" in frame.inner_text(".sentence")
    rows = _rows(frame, "positive at layer.1")
    assert rows[0].startswith("praise for +1.4")
    assert rows[1].startswith("food as random −0.2")
    assert "94 % 50 % 0.9 (random 0.51) 0.7 (random 0.3)" in rows[0]
    labels = frame.locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert [label.split(":")[0] for label in labels][:3] == ["Loss", "Score F(x)", "Told apart"]


def test_the_table_shows_every_test_and_why_one_was_not_made(shown):
    frame = shown(1)
    assert "Told apart 1 of 2" in " ".join(frame.inner_text(".record .facts").split())
    assert _rows(frame, "positive at layer.1")[0].startswith("praise for 94 %")
    frame = shown(5)
    assert len(_rows(frame, "positive at layer.1")) == 30
    frame.locator("button:has-text('Show all 40')").click()
    frame.wait_for_function("document.querySelectorAll('.evidence tbody tr').length === 40")


@pytest.mark.parametrize("probe", [2, 3])
def test_texts_are_text_and_never_markup(shown, probe):
    frame = shown(probe)
    assert "<img src=x onerror=alert(1)>" in frame.inner_text(".body")
    assert frame.locator(".body :is(script, img, bdi *, a)").count() == 0


def test_what_is_missing_is_left_out(shown):
    frame = shown(4)
    assert frame.locator(".notice.error").count() == 0
    for word in ("undefined", "NaN", "null", "[object"):
        assert word not in frame.inner_text(".record")
