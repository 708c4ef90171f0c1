"""TensorBoard in a real browser, on what a real run wrote: the pictures load, the texts say the words."""

import threading

import boards
import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from purity import ToyTask, fit
from tiny import wordpiece

from lightning_interpret import SaliencyMonitor

pytestmark = boards.needs_browser


def test_chromium_is_where_it_is_needed():
    assert boards.CHROMIUM is not None, "LIGHTNING_INTERPRET_NEEDS_BROWSER=1, but there is no `chromium` on the PATH"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    watcher = SaliencyMonitor(task=ToyTask(wordpiece()), probes=2, on_error="raise")
    fit([watcher], folder, epochs=1, logger=TensorBoardLogger(folder))
    with boards.served(folder) as address:
        yield address


@pytest.fixture(scope="module")
def chromium():
    with boards.browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def page(chromium):
    return chromium.new_page(viewport={"width": 1400, "height": 1000})


def test_the_images_tab_shows_each_probe(page, address):
    page.goto(f"{address}#images")
    page.wait_for_selector("text=interpret/saliency/probe_1/image", timeout=30_000)
    page.wait_for_function(
        "() => [...document.querySelectorAll('*')].flatMap(function all(e) {"
        " return [e, ...(e.shadowRoot ? [...e.shadowRoot.querySelectorAll('*')].flatMap(all) : [])] })"
        ".filter(e => e.tagName === 'IMG' && e.src.includes('individualImage') && e.naturalWidth > 300).length >= 2",
        timeout=30_000,
    )


def test_the_text_tab_shows_target_baseline_and_error(page, address):
    page.goto(f"{address}#text")
    page.wait_for_selector("text=baseline pad", timeout=30_000)
    assert page.locator("text=/error \\d+\\.\\d\\d%/").count() >= 1
    assert page.locator("text=integrated_gradients").count() >= 1


class _Gate(Callback):
    """Holds the fit after each validation until it is opened."""

    def __init__(self):
        self.validated, self.opened = threading.Semaphore(0), threading.Semaphore(0)

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.validated.release()
            assert self.opened.acquire(timeout=120)


def test_the_interpret_tab_follows_a_run_while_it_trains(chromium, tmp_path):
    gate, watcher = _Gate(), SaliencyMonitor(task=ToyTask(wordpiece()), probes=2, on_error="raise")
    logger = TensorBoardLogger(tmp_path)
    run = threading.Thread(target=fit, args=([watcher, gate], tmp_path), kwargs={"epochs": 1, "logger": logger})
    run.start()
    try:
        assert gate.validated.acquire(timeout=120)
        with boards.served(tmp_path, "--reload_interval", "1") as address:
            page = chromium.new_page()
            page.goto(f"{address}#interpret")
            frame = page.wait_for_selector("iframe").content_frame()
            frame.wait_for_selector(".unit:text-is('[CLS]')")
            first = frame.get_attribute(".body", "data-step")
            assert "integrated_gradients" in frame.inner_text(".about")
            assert frame.locator(".option").count() == 2
            gate.opened.release()
            assert gate.validated.acquire(timeout=120)
            for _ in range(100):
                page.click(".reload-button")
                page.wait_for_timeout(200)
                if frame.get_attribute("input[type=range]", "max") == "1":
                    break
            frame.wait_for_selector(f".body:not([data-step='{first}'])")
            frame.press("input[type=range]", "[")
            frame.wait_for_selector(f".body[data-step='{first}']")
            assert frame.locator(".chart").count() >= 2
            page.close()
    finally:
        gate.opened.release(10)
        run.join(timeout=120)
    assert not run.is_alive()
