"""The back end of the Interpret tab: what is there, the facts of each step, and one step whole.

It reads through TensorBoard's data provider, so that both data readers serve it. A payload that cannot be read is an
answer with a ``problem``, never a failed request: the other steps stay readable.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tensorboard import errors, plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins.base_plugin import FrontendMetadata, TBPlugin
from werkzeug import wrappers

from lightning_interpret.tensorboard.payload import PLUGIN, SCHEMA, drift, facts, join, page_of, parse, probe_of
from lightning_interpret.tensorboard.plugin import SAMPLES

_STATIC = Path(__file__).parent / "static"
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_RAW = 20_000  # characters of a broken payload that are shown
_ALL = 2**31 - 1  # steps to read where 0 samples were asked for, which TensorBoard takes for all of them


@dataclass(frozen=True)
class _Step:
    """One step of a probe: its payload, or why there is none and what was written instead."""

    step: int
    wall_time: float
    payload: dict[str, Any] | None
    problem: str | None = None
    raw: str = ""


class InterpretPlugin(TBPlugin):
    """Serves the tab's files, and the records of the runs that TensorBoard reads.

    Routes, under ``data/plugin/interpret/``:

    - ``tags``: every probe of every run, and the kinds that have a renderer.
    - ``latest?run=&tag=&tag=...``: the facts of the last step of some probes.
    - ``steps?run=&tag=``: the facts of each step of a probe, with the drift since the step before.
    - ``record?run=&tag=&step=``: the payload of one step, its pages joined.
    - ``records?run=&tag=&tag=...``: the payload of the last step of some probes, its pages joined.
    """

    plugin_name = PLUGIN

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._provider = context.data_provider
        kept = (context.sampling_hints or {}).get(PLUGIN, SAMPLES)
        self._samples = kept or _ALL

    def is_active(self) -> bool:
        """Return ``False``: TensorBoard itself asks the data provider whether there is anything to show."""
        return False

    def frontend_metadata(self) -> FrontendMetadata:
        """Return where the page starts."""
        return FrontendMetadata(es_module_path="/index.js", tab_name="Interpret")

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Return the routes; files are listed here once, so that no request names a path."""
        apps: dict[str, Callable[..., Any]] = {
            "/tags": _json(self._tags),
            "/latest": _json(self._latest),
            "/steps": _json(self._steps),
            "/record": _json(self._record),
            "/records": _json(self._records),
        }
        for path in _STATIC.rglob("*.*"):
            if path.suffix in _TYPES:
                apps["/" + path.relative_to(_STATIC).as_posix()] = _file(path)
        return apps

    def _tags(self, request: wrappers.Request) -> Any:
        found = self._provider.list_tensors(**_asked(request), plugin_name=PLUGIN)
        first = [
            _listed(run, tag, of) for run, tags in found.items() for tag, of in tags.items() if page_of(tag)[1] == 1
        ]
        return {
            "schema": SCHEMA,
            "kinds": sorted(path.stem for path in (_STATIC / "kinds").glob("*.js")),
            "samples": self._samples,
            "tags": sorted(first, key=lambda e: (e["run"], e["monitor"], e["probe"] is None, e["probe"], e["tag"])),
        }

    def _latest(self, request: wrappers.Request) -> Any:
        return {tag: _digest(step) for tag, step in self._last(request).items()}

    def _steps(self, request: wrappers.Request) -> Any:
        digests, before = [], None
        for step in self._probe(request):
            digest = _digest(step)
            if step.payload is not None:
                digest["drift"] = drift(step.payload, before) if before is not None else None
                before = step.payload
            digests.append(digest)
        return digests

    def _record(self, request: wrappers.Request) -> Any:
        return vars(self._probe(request, step=_argument(request, "step"))[-1])

    def _records(self, request: wrappers.Request) -> Any:
        return {tag: vars(step) for tag, step in self._last(request).items()}

    def _last(self, request: wrappers.Request) -> dict[str, _Step]:
        run, tags = _argument(request, "run"), [_argument(request, "tag"), *request.args.getlist("tag")[1:]]
        return {tag: steps[-1] for tag, steps in self._read(request, run, tags, 1).items() if steps}

    def _probe(self, request: wrappers.Request, step: str | None = None) -> list[_Step]:
        run, tag = _argument(request, "run"), _argument(request, "tag")
        steps = self._read(request, run, [tag], self._samples, step).get(tag)
        if not steps:
            named = f"`tag={tag}` of `run={run}`"
            raise errors.NotFoundError(
                f"{named} is not there." if step is None else f"`step={step}` of {named} is gone."
            )
        return steps

    def _read(
        self, request: wrappers.Request, run: str, tags: Iterable[str], samples: int, step: str | None = None
    ) -> dict[str, list[_Step]]:
        """Return the steps of each tag in order, or one step of it, the pages of a step joined."""
        read = self._pages(request, run, list(tags), samples, None if step is None else {step})
        longer = {(tag, step) for tag, steps in read.items() for step, page in steps.items() if _pages_of(page) > 1}
        more = self._further(request, run, longer) if longer else {}
        return {
            tag: [
                _joined(first, [page[step] for page in more.get(tag, []) if step in page])
                for step, first in sorted(steps.items())
            ]
            for tag, steps in read.items()
        }

    def _further(
        self, request: wrappers.Request, run: str, longer: set[tuple[str, int]]
    ) -> dict[str, list[dict[int, _Step]]]:
        """Return what stands on the pages after the first, in their order, of tags at their steps."""
        tags, steps = {tag for tag, _ in longer}, {str(step) for _, step in longer}
        runs = provider.RunTagFilter(runs=[run])
        listed = self._provider.list_tensors(**_asked(request), plugin_name=PLUGIN, run_tag_filter=runs).get(run, {})
        pages = [tag for tag in listed if page_of(tag)[1] > 1 and page_of(tag)[0] in tags]
        read = self._pages(request, run, pages, self._samples, steps)
        found = defaultdict(list)
        for tag in sorted(read, key=lambda tag: page_of(tag)[1]):
            found[page_of(tag)[0]].append(read[tag])
        return found

    def _pages(
        self, request: wrappers.Request, run: str, tags: list[str], samples: int, steps: set[str] | None
    ) -> dict[str, dict[int, _Step]]:
        """Return every page of some tags by step, or those of some steps; of a step that was written twice the last."""
        wanted = provider.RunTagFilter(runs=[run], tags=tags)
        read = self._provider.read_tensors(
            **_asked(request), plugin_name=PLUGIN, downsample=samples, run_tag_filter=wanted
        )
        return {
            tag: {datum.step: _page(datum) for datum in data if steps is None or str(datum.step) in steps}
            for tag, data in read.get(run, {}).items()
        }


def _listed(run: str, tag: str, series: provider.TensorTimeSeries) -> dict[str, Any]:
    monitor, probe = probe_of(tag)
    kind, version = _written(series.plugin_content)
    return {
        "run": run,
        "tag": tag,
        "monitor": monitor,
        "probe": probe,
        "kind": kind,
        "version": version,
        "last_step": series.max_step,
    }


@lru_cache(maxsize=256)
def _written(content: bytes) -> tuple[str, Any]:
    """Return the kind and the version that a tag's metadata name: thousands of tags have the same few."""
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    found = found if isinstance(found, dict) else {}
    return str(found.get("kind", "")), found.get("version")


def _page(datum: provider.TensorDatum) -> _Step:
    raw = ""
    try:
        value = datum.numpy.item()
        raw = value.decode("utf8") if isinstance(value, bytes) else str(value)
        return _Step(datum.step, datum.wall_time, parse(raw))
    except ValueError as error:  # also of a tensor with several entries, or of bytes that are no text
        return _Step(datum.step, datum.wall_time, None, str(error), raw[:_RAW])


def _pages_of(page: _Step) -> int:
    pages = 1 if page.payload is None else page.payload.get("pages", 1)
    return pages if isinstance(pages, int) else 1


def _joined(first: _Step, further: list[_Step]) -> _Step:
    if first.payload is None:
        return first
    try:
        # More pages than the first one speaks of are those of a longer record, which was written over at this step.
        rest = [page.payload for page in further[: _pages_of(first) - 1] if page.payload]
        return replace(first, payload=join([first.payload, *rest]))
    except (ValueError, TypeError, KeyError) as error:
        problem = f"{str(error) or type(error).__name__} TensorBoard may have dropped it: see --samples_per_plugin."
        return replace(first, payload=None, problem=problem, raw=json.dumps(first.payload)[:_RAW])


def _digest(step: _Step) -> dict[str, Any]:
    known: Mapping[str, Any] = {"problem": step.problem} if step.payload is None else facts(step.payload)
    return {**known, "step": step.step, "wall_time": step.wall_time}


def _argument(request: wrappers.Request, name: str) -> str:
    if name not in request.args:
        raise errors.InvalidArgumentError(f"The request has no `{name}=`.")
    return request.args[name]


def _asked(request: wrappers.Request) -> dict[str, Any]:
    environ = request.environ
    return {"ctx": plugin_util.context(environ), "experiment_id": plugin_util.experiment_id(environ)}


def _json(answer: Callable[[wrappers.Request], Any]) -> Callable[..., Any]:
    @wrappers.Request.application
    def app(request: wrappers.Request) -> Any:
        return http_util.Respond(request, json.dumps(answer(request), allow_nan=False), "application/json")

    return app


def _file(path: Path) -> Callable[..., Any]:
    @wrappers.Request.application
    def app(request: wrappers.Request) -> Any:
        return http_util.Respond(request, path.read_bytes(), _TYPES[path.suffix])

    return app
