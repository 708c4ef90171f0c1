"""TensorBoard for tests: events written without torch, either data reader, a server, a browser."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorboard import default as builtin
from tensorboard import program
from tensorboard.backend import application
from tensorboard.compat.proto import event_pb2
from tensorboard.data import server_ingester
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
from werkzeug.test import Client

from lightning_interpret.report import interpret_summary
from lightning_interpret.tensorboard.payload import page_of
from lightning_interpret.tensorboard.plugin import InterpretLoader

CHROMIUM = shutil.which("chromium")
NEEDED = os.environ.get("LIGHTNING_INTERPRET_NEEDS_BROWSER") == "1"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ROUTE = "/data/plugin/interpret/"

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None and not NEEDED, reason="no `chromium` on the PATH (apt-get install chromium)"),
]


class Events:
    """One run's event file; ``with`` closes it."""

    def __init__(self, folder):
        self.file = EventFileWriter(str(folder))
        self.last = {}  # first pages: the largest step of each tag

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def add(self, summary, step, wall_time=None):
        time_of = time.time() if wall_time is None else wall_time
        self.file.add_event(event_pb2.Event(summary=summary, step=step, wall_time=time_of))

    def text(self, tag, step, text, content=None, values=None):
        """Write any text, or an array, as what the tab reads; ``content`` is the plugin's metadata."""
        summary = interpret_summary.summary(tag, text)
        if content is not None:
            summary.value[0].metadata.plugin_data.content = content
        if values is not None:
            summary.value[0].tensor.CopyFrom(tensor_util.make_tensor_proto(values))
        if page_of(tag)[1] == 1:
            self.last[tag] = max(step, self.last.get(tag, step))
        self.add(summary, step)

    def row(self, row, probe=0, step=0, name="saliency", limit=65536):
        """Write a row as a Monitor does."""
        pages = interpret_summary.payloads(row, monitor=name, step=step, probe=probe, limit=limit)
        for number, page in enumerate(pages, 1):
            content = json.dumps({"version": 1, "kind": row.kind}).encode()
            self.text(interpret_summary.tag(name, probe, number), step, page, content)
        return len(pages)

    def flush(self):
        self.file.flush()


def payload(records, kind="attribution", step=0, **head):
    """Return the text of a payload of any records."""
    return json.dumps({"schema": 1, "kind": kind, "step": step, "page": 1, "pages": 1, "records": records} | head)


def rust():
    """Return the binary of the Rust reader, or ``None`` where it is not installed."""
    try:
        return server_ingester.get_server_binary()
    except server_ingester.NoDataServerError:
        return None


def backend(folder, reader, *flags, runs=(), prefix=""):
    """Return TensorBoard without a server over a folder: ``get(route, **query)`` -> (status, JSON or text).

    The Rust reader reads in its own time: ``runs`` names folders in which all tags of ``Events`` must have been seen.
    """
    board = program.TensorBoard(plugins=[*builtin.get_static_plugins(), InterpretLoader()])
    reading = f"--load_fast={'true' if reader == 'rust' else 'false'}"
    argv = ["tensorboard", "--logdir", str(folder), reading, "--reload_interval=0", "--reload_task=blocking", *flags]
    board.configure(argv=argv)
    provider, multiplexer = board._make_data_provider()
    app = application.TensorBoardWSGIApp(
        board.flags, board.plugin_loaders, provider, board.assets_zip_provider, multiplexer
    )
    client = Client(app)

    def get(route, **query):
        path = prefix + (route if route.startswith("/") else ROUTE + route)
        response = client.get(path, query_string=query)
        text = response.get_data(as_text=True)
        return response.status_code, json.loads(text) if response.mimetype == "application/json" else text

    written = {(run, tag, step) for run, events in dict(runs).items() for tag, step in events.last.items()}

    def read():
        return written <= {(e["run"], e["tag"], e["last_step"]) for e in get("tags")[1]["tags"]}

    wait_for(read)
    return SimpleNamespace(get=get, client=client, board=board)


def wait_for(condition, seconds=30, pause=0.1):
    """Wait until a condition is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited for {seconds} s"
        time.sleep(pause)
    return found


@contextmanager
def served(folder, *flags):
    """A real TensorBoard over a folder; its address, with a slash at the end."""
    command = [Path(sys.executable).with_name("tensorboard"), "--logdir", folder, "--port", "0", "--host", "127.0.0.1"]
    with subprocess.Popen([*command, *flags], stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        deadline = time.monotonic() + 60
        found = None
        while found is None and time.monotonic() < deadline:
            found = re.search(r"(http://127\.0\.0\.1:\d+/\S*)", server.stderr.readline())
        assert found, "TensorBoard did not say where it listens"
        try:
            yield found[1].rstrip("/") + "/"
        finally:
            server.terminate()


@contextmanager
def browser():
    """Headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()
