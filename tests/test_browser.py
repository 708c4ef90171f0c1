"""TensorBoard in a real browser, on what a real run wrote: the pictures load, the texts say the words."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from purity import ToyTask, fit
from tiny import wordpiece

from lightning_interpret import SaliencyMonitor

CHROMIUM = shutil.which("chromium")
NEEDED = os.environ.get("LIGHTNING_INTERPRET_NEEDS_BROWSER") == "1"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not NEEDED, reason="no `chromium` on the PATH (apt-get install chromium)"),
]


def test_chromium_is_where_it_is_needed():
    assert CHROMIUM is not None, "LIGHTNING_INTERPRET_NEEDS_BROWSER=1, but there is no `chromium` on the PATH"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    watcher = SaliencyMonitor(task=ToyTask(wordpiece()), probes=2, on_error="raise")
    fit([watcher], folder, epochs=1, logger=TensorBoardLogger(folder))
    command = Path(sys.executable).with_name("tensorboard")
    with subprocess.Popen(
        [command, "--logdir", folder, "--port", "0", "--host", "127.0.0.1"], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        deadline = time.monotonic() + 60
        found = None
        while found is None and time.monotonic() < deadline:
            found = re.search(r"(http://127\.0\.0\.1:\d+/)", server.stderr.readline())
        assert found, "TensorBoard did not say where it listens"
        yield found[1]
        server.terminate()


@pytest.fixture(scope="module")
def page(address):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


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
