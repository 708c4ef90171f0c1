"""A comparison of methods in the Interpret tab, in a real browser inside a real TensorBoard."""

import boards
import pytest
import tab
from trust_toys import comparison, method

from lightning_interpret.records.trust import Drill, TrustedMethod, TrustRow

pytestmark = boards.needs_browser

MARKUP = "<b>bold</b><img src=x onerror=alert(1)>"


def _write(folder):
    with boards.Events(folder / "run") as events:
        for step, gain in ((10, 0.1), (20, 0.2)):
            methods = (method("integrated_gradients", gain=gain, token_f1=0.4), *comparison().methods[1:])
            events.row(comparison(methods=methods), name="trust", step=step)
        broken = Drill(MARKUP, MARKUP, 0.1, 5, 0.8, 0.79, 0, 20, invalid="the model does not use the cue")
        nasty = TrustedMethod(MARKUP, {"seconds": 1.0}, 1, failed=MARKUP)
        events.row(
            comparison(methods=(nasty,), recommended=None, because=(MARKUP,), drill=broken, agreement=()),
            name="trust",
            probe=1,
            step=10,
        )
        events.row(TrustRow(), name="trust", probe=2, step=10)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """Show a record on one page, and wait for what it alone says: ``shown(1)`` returns the frame."""
    folder = tmp_path_factory.mktemp("runs")
    _write(folder)
    with (
        boards.browser() as chromium,
        boards.served(folder, "--reload_interval", "0") as address,
        tab.opened(chromium, address, tab.hash_of("interpret/trust/probe_0", "run")) as (_page, frame),
    ):

        def show(probe=0):
            frame.locator(".group[aria-label='run · trust'] .option").nth(probe).click()
            own = ("integrated_gradients · gradient", "The drill says nothing", "No method.")[probe]
            frame.wait_for_selector(f".body[aria-busy=false]:has-text('{own}')")
            return frame

        yield show


def _rows(frame, title):
    table = frame.locator(".evidence", has=frame.locator(f"h2:text-is('{title}')"))
    return [" ".join(row.split()) for row in table.locator("tbody tr").all_inner_texts()]


def test_the_table_the_agreement_and_the_drill_are_read_beside_the_random_order(shown):
    frame = shown()
    assert frame.inner_text(".sentence") == "integrated_gradients is recommended, of 2 that could be."
    assert "integrated_gradients" in frame.inner_text(".facts")
    rows = _rows(frame, "Methods")
    assert rows[0].startswith("integrated_gradients 0.2 0.1 %")
    assert rows[1].startswith("gradient 0.1 ranks only")
    assert rows[2].startswith("expected_gradients failed")
    assert rows[3].startswith("random order –")
    assert _rows(frame, "Agreement") == ["integrated_gradients · gradient 0.4 60 %"]
    assert _rows(frame, "Shortcut drill") == [
        "integrated_gradients 100 % 100 %", "gradient 50 % 75 %", "random order 10 % 30 %",
    ]  # fmt: skip
    assert "expected_gradients failed: ValueError: no references" in frame.inner_text(".about")


def test_charts_follow_the_method_that_is_recommended(shown):
    labels = shown().locator(".charts svg").evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert [label.split(":")[0] for label in labels] == ["Gain", "Error", "Agreement"]
    assert labels[0].startswith("Gain: 0.2 at step 20")


def test_none_recommended_a_drill_that_says_nothing_and_texts_as_they_are(shown):
    frame = shown(1)
    assert "none" in frame.inner_text(".facts")
    assert MARKUP in frame.inner_text(".sentence")
    assert "The drill says nothing: the model does not use the cue." in frame.inner_text(".body")
    assert frame.locator(".body img").count() == 0
    assert "No method." not in frame.inner_text(".body")
    assert shown(2).locator(".evidence").count() >= 1
