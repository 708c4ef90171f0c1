"""Several methods on the same probes: one table, one recommendation."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.methods import Method
from lightning_interpret.names import check_positive, check_whole
from lightning_interpret.records.trust import Drill, TrustRow
from lightning_interpret.tasks import Task, batches
from lightning_interpret.trust.figures import Probed
from lightning_interpret.trust.measure import measure
from lightning_interpret.trust.setting import DEFAULT, Setting, measured_in, measured_said, named_methods, settings_said
from lightning_interpret.trust.table import table


def compare_methods(
    module: nn.Module,
    batch: Any,
    task: Task,
    methods: Iterable[str | Method] = DEFAULT,
    *,
    setting: Setting | None = None,
    gold: Tensor | None = None,
    drill: Drill | None = None,
    tolerance: float = 0.05,
    max_seconds: float | None = None,
    batch_size: int = 16,
) -> TrustRow:
    """Return what some probes say of each method, and which one they recommend.

    Every method explains the same targets of the same examples, and what it says is measured in the same way: its
    attribution error first, then what the model does where tokens are erased, beside random orders; what it says of the
    model with random weights; how it agrees with people, where they were asked; and what it costs.

    Args:
        module: The module; it is left as it was.
        batch: The probes, on the module's device.
        task: How module and batch are read.
        methods: Names of methods, or methods with options.
        setting: What they are asked and measured by.
        gold: What people selected, ``(N, T)``, 1 or 0, −100 where it is not known; by default the batch's
            ``rationale``.
        drill: What became of a planted cue (:func:`~lightning_interpret.trust.drill.run_drill`).
        tolerance: Relative attribution error up to which a method adds up.
        max_seconds: After this no more probes are begun, and the record says so; ``None`` for all.
        batch_size: Probes at once.

    Raises:
        ValueError: If there is no method, the batch cannot be read, or an option is out of its range. A method that
            fails on this model is a line with its reason.

    Example::

        row = compare_methods(module, batch, task, ["integrated_gradients", "occlusion", "gradient"])
        print(row)
    """
    check_positive(tolerance=tolerance)
    check_whole(batch_size=batch_size)
    if max_seconds is not None:
        check_positive(max_seconds=max_seconds)
    setting = setting or Setting()
    chosen = named_methods(methods)
    begin, found, size = time.perf_counter(), list[Probed](), batches.batch_size(batch)
    if not size:
        raise ValueError("The batch has no examples: give some probes.")
    gold = batches.get(batch, "rationale") if gold is None else gold
    for rows in torch.arange(size).split(batch_size):
        if found and max_seconds is not None and time.perf_counter() - begin > max_seconds:
            break
        known = None if gold is None else gold[rows.to(gold.device)]
        found += measure(module, task.take(batch, rows), task, chosen, setting, known)
    used = task.baseline_for(Baseline.ensure(setting.baseline)).name
    notes = settings_said(chosen) + measured_said(measured_in(task, setting.which))
    notes += left_out(len(found), size, max_seconds)
    return table(found, chosen, setting, baseline=used, tolerance=tolerance, drill=drill, notes=notes)


def left_out(done: int, asked: int, max_seconds: float | None) -> tuple[str, ...]:
    """Return the note of probes that there was no time for; none where all were explained."""
    return (f"{done} of {asked} probes: `max_seconds={max_seconds:g}` was spent",) if done < asked else ()
