"""The functions of the Interpret tab's own files, for tests: run as the JavaScript that they are."""

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import boards
import pytest

import lightning_interpret

STATIC = Path(lightning_interpret.__file__).parent / "tensorboard" / "static"


class _Files(SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return "text/javascript" if str(path).endswith(".js") else "text/css"  # whatever the system says

    def log_message(self, *message):
        pass


@pytest.fixture(scope="module")
def functions():
    """Call functions of a file: ``functions("model.js")("units", record, "word")``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Files, directory=STATIC))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with boards.browser() as chromium:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/index.css")

        def call(file, name, *values):
            # As JSON, which has no NaN and no lone surrogate to trip over on the way.
            script = """async ([file, name, values]) => {
                const found = (await import(`/${file}`))[name];
                return JSON.stringify(typeof found === "function" ? found(...JSON.parse(values)) : found);
            }"""
            answer = page.evaluate(script, [file, name, json.dumps(values)])
            return None if answer is None else json.loads(answer)

        yield lambda file: partial(call, file)
    server.shutdown()
