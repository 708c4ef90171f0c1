"""Promise 1 when an explanation ends in the middle: by an error that is counted, by one that stops the run, by Ctrl-C.

All of it against runs that a callback stops which does nothing else.
"""

from functools import cache

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.trainer.states import TrainerStatus
from purity import FIRST_ALONE, MONITORS, WITHOUT_GRADIENTS, Cell, Toy, ToyTask, assert_same, watched
from tiny import wordpiece

everyone = pytest.mark.parametrize("name", MONITORS)
each_pass = pytest.mark.parametrize(
    ("backward", "name"),
    [
        pytest.param(backward, name, id=f"{'backward' if backward else 'forward'}-{name}")
        for backward in (False, True)
        for name in MONITORS
        if not (backward and name in WITHOUT_GRADIENTS)
    ],
)


class Tires(ToyTask):
    """Fails from one forward on: at once, or when the gradient comes back to its logits."""

    def __init__(self, error=None, at=float("inf"), *, backward=False):
        super().__init__(wordpiece())
        self.error, self.at, self.backward, self.seen = error, at, backward, []

    @property
    def calls(self):
        return len(self.seen)  # of its copies too: a Monitor explains by a copy that has references

    def logits(self, module, batch):
        self.seen.append(len(batch))
        logits = super().logits(module, batch)
        if self.calls >= self.at:
            if not self.backward:
                raise self.error
            if logits.requires_grad:
                logits.register_hook(self.fail)
        return logits

    def fail(self, grad):
        raise self.error


@pytest.fixture(scope="module")
def halfway(purity):
    """Return the number of the forward in the middle of all that a Monitor makes in a cell."""

    @cache
    def found(name, **cell):
        task = Tires()
        Cell(**cell).run([watched(name, task=task)], purity.folder())
        assert task.calls >= 4
        return task.calls // 2 + 1

    return found


class Raises(Callback):
    """Raises in a validation's first batch, and does nothing else."""

    def __init__(self, error, after):
        self.error, self.after, self.ran = error, after, 0

    def on_validation_batch_end(self, *args, **kwargs):
        self.ran += 1
        if self.ran > self.after:
            raise self.error

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


@each_pass
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_t20_training_is_bit_identical_when_the_method_raises_in_the_middle(purity, halfway, precision, backward, name):
    cell = CELLS[precision]
    task = Tires(RuntimeError("in the middle"), halfway(name, precision=precision), backward=backward)
    monitor = watched(name, task=task, on_error="warn")
    with pytest.warns(UserWarning, match=r"in the middle.*training goes on"):
        shown, trainer = cell.run([monitor], purity.folder())
    assert_same(purity.plain(cell), shown)
    assert monitor.found  # it went well until then
    failures = trainer.callback_metrics[f"interpret/{monitor.name}/failures"]
    assert failures >= 1 if name in FIRST_ALONE else failures == 3


CELLS = {precision: Cell(precision=precision) for precision in ("32-true", "bf16-mixed", "bf16-true")}


@each_pass
@pytest.mark.parametrize("stage", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize(
    ("error", "caught", "on_error"),
    [
        (RuntimeError("in the middle"), RuntimeError, "raise"),
        (KeyboardInterrupt("in the middle"), SystemExit, "warn"),
    ],
    ids=["on-error-raise", "interrupt"],
)
def test_what_stops_a_run_in_the_middle_of_an_explanation_leaves_what_it_leaves_elsewhere(
    purity, halfway, stage, error, caught, on_error, backward, name
):
    """Against a run that a callback stops which does nothing else: Lightning is told, and the module is as it was."""
    cell = Cell(stages=(stage,), raises=(caught,))
    task = Tires(error, halfway(name, stages=(stage,)), backward=backward)
    monitor = watched(name, task=task, on_error=on_error)
    shown, trainer = cell.run([monitor], purity.folder())
    batches = [seen for seen in shown["batches"] if len(seen) == 3]  # those of evaluation, before the error
    plain, _ = cell.run([Raises(error, len(batches))], purity.folder())
    assert_same(plain, shown)
    assert shown["seen"][-1]["when"] == repr(error)
    assert shown["error"][1] == TrainerStatus.INTERRUPTED
    assert trainer.interrupted


@everyone
def test_numbers_that_cannot_be_made_of_a_record_cost_no_run(purity, name):
    cell = CELLS["32-true"]
    monitor = watched(name, on_error="warn")
    update = monitor.update

    def chokes(metrics, probe, row):
        if probe == 1:
            raise ArithmeticError("no number")
        update(metrics, probe, row)

    monitor.update = chokes
    with pytest.warns(UserWarning, match=r"probe 1 could not be explained \(ArithmeticError: no number\)"):
        shown, trainer = cell.run([monitor], purity.folder())
    assert_same(purity.plain(cell), shown)
    assert trainer.callback_metrics[f"interpret/{monitor.name}/failures"] == 1
    probes = {probe for probe, _ in monitor.found}
    assert 1 not in probes
    assert probes >= {0, 2}
    assert name in FIRST_ALONE or len(probes) == 2  # which shows groups and cases beside its overview


@everyone
def test_a_module_whose_explanation_was_interrupted_trains_on_as_any_other(purity, name):
    ends = []
    for stop in (Raises(KeyboardInterrupt(), 2), watched(name, task=Tires(KeyboardInterrupt(), 3), on_error="warn")):
        torch.manual_seed(0)
        module = Toy()
        validated, _ = Cell(lambda module=module: module, stages=("validate",), raises=(SystemExit,)).run(
            [stop], purity.folder()
        )
        assert "SystemExit" in validated["error"][0]
        module.calls.zero_()  # how far validation came is not what is asked
        ends.append(Cell(lambda module=module: module).run([], purity.folder())[0])
    assert_same(*ends)
