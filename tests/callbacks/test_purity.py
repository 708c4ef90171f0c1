"""Promise 1: training ends in the same bits with a Monitor and without it (cases T20, T21).

The matrix of precisions, optimisation, compilation and entry points. Ways to train are in `test_purity_training.py`,
errors in `test_purity_errors.py`, several processes in `test_ddp.py`.
"""

import warnings
from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from purity import MONITORS, Cell, Dense, Toy, ToyTask, crossed, fit, loaders, told, watched
from tiny import wordpiece

import lightning_interpret
from lightning_interpret import SaliencyMonitor, callbacks
from lightning_interpret.callbacks import Monitor
from lightning_interpret.methods import METHODS, IntegratedGradients
from lightning_interpret.methods.hierarchy import HIERARCHICAL

ENTRY_POINTS = ("fit", "validate", "test", "predict")
CHAIN = (*ENTRY_POINTS, "fit")
PRECISIONS = ("32-true", "bf16-mixed", "bf16-true")
everyone = pytest.mark.parametrize("name", MONITORS)


def test_every_public_monitor_goes_through_the_purity_matrix():
    public = [getattr(room, name) for room in (lightning_interpret, callbacks) for name in room.__all__]
    kinds = {each for each in public if isinstance(each, type) and issubclass(each, Monitor)}
    monitors = {each.__name__ for each in kinds if not getattr(each.explain, "__isabstractmethod__", False)}
    missing = sorted(monitors - set(MONITORS))
    assert not missing, (
        f"{', '.join(missing)} is not run through the purity matrix: add it by class name to `MONITORS` in "
        "tests/purity.py, as a function of the options of every Monitor that returns one which explains a Toy."
    )
    assert {name: type(make(probes=1)).__name__ for name, make in MONITORS.items()} == {name: name for name in MONITORS}


def test_a_monitor_that_is_not_in_the_registry_is_named_with_what_to_do(monkeypatch):
    monkeypatch.delitem(MONITORS, "SaliencyMonitor")
    with pytest.raises(AssertionError, match=r"SaliencyMonitor is not run .* add it by class name to `MONITORS`"):
        test_every_public_monitor_goes_through_the_purity_matrix()


# The matrix


def compiled(ways, stages=CHAIN):
    for precision, manual in ways:
        how = "manual" if manual else "accumulation"
        yield (
            f"{precision}-{how}-compiled",
            Cell(partial(Dense, manual), precision, compiled="aot_eager", stages=stages),
        )


def cells():
    for precision in PRECISIONS:
        for manual in (False, True):
            how = f"{precision}-{'manual' if manual else 'accumulation'}"
            yield f"{how}-eager", Cell(partial(Toy, manual), precision, stages=CHAIN)
        for stage in ENTRY_POINTS[1:]:
            yield f"{precision}-{stage}-eager", Cell(precision=precision, stages=(stage,))
    # each entry point is compiled anew: the others are with `-m slow`
    yield from compiled((("32-true", False), ("32-true", True), ("bf16-mixed", False)), ("fit", "validate"))
    yield "64-true-accumulation-eager", Cell(precision="64-true", stages=CHAIN)
    yield "bf16-mixed-accumulation-every-method", Cell(Dense, "bf16-mixed")


def slow_cells():
    yield from compiled((*((precision, True) for precision in PRECISIONS[1:]), ("bf16-true", False)))
    for stage in ENTRY_POINTS[1:]:
        yield f"32-true-{stage}-compiled", Cell(Dense, compiled="aot_eager", stages=(stage,))
    # Dynamo does not trace a GRU, so that the forward is compiled in pieces
    yield "32-true-accumulation-compiled-in-pieces", Cell(compiled="aot_eager")
    for how, manual in (("accumulation", False), ("manual", True)):
        yield (
            f"bf16-mixed-{how}-inductor",
            Cell(partial(Dense, manual), "bf16-mixed", compiled="inductor", stages=CHAIN),
        )


SLOW = dict(slow_cells())
CELLS = dict(cells()) | SLOW


@pytest.mark.parametrize(("cell", "name"), crossed(CELLS, SLOW))
def test_t20_all_is_bit_identical_with_and_without_the_monitor(purity, cell, name):
    cell = CELLS[cell]
    _, shown = purity.check(cell, name)
    if cell.compiled and cell.module is not Toy:
        assert shown["compiled"]["stats"]["calls_captured"] > 8 * len(set(cell.stages))  # all of the module's forward


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_two_runs_without_a_monitor_are_the_same(purity, cell):
    purity.prove(CELLS[cell])


SWEPT = ("32-true-accumulation-eager", "bf16-mixed-predict-eager", "bf16-true-test-eager")


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=[pytest.mark.slow] * (cell not in SWEPT)) for cell in CELLS])
def test_t20_all_is_bit_identical_with_and_without_a_sweep_over_layers(purity, cell):
    monitor, _ = purity.check(CELLS[cell], "SaliencyMonitor", layer="all")
    assert {row.layer for _, row in monitor.found} >= {"embedding", "dropout"}


#: Options that make a method quick here; every method of the registry is tried, with its defaults else.
QUICK = {"expected_gradients": {"samples": 4}, "kernel_shap": {"samples": 30}, "lime": {"samples": 30}}


@pytest.mark.parametrize("method", METHODS)
def test_t20_all_is_bit_identical_with_and_without_every_method(purity, method):
    cell = CELLS["bf16-mixed-accumulation-every-method"]
    monitor, _ = purity.check(cell, "SaliencyMonitor", method=METHODS[method](**QUICK.get(method, {})))
    assert {row.method for _, row in monitor.found} == {method}


@pytest.mark.parametrize("method", sorted(HIERARCHICAL))
def test_t20_all_is_bit_identical_with_and_without_every_tree(purity, method):
    monitor, _ = purity.check(CELLS["bf16-mixed-accumulation-every-method"], "HierarchyMonitor", method=method)
    assert {row.method for _, row in monitor.found} == {method}


class Parts(Toy):
    """Compiles parts of itself, as `configure_model` is for."""

    def configure_model(self):
        if isinstance(self.head, torch.nn.Linear):
            for part in ("embedding", "norm", "head"):
                setattr(self, part, torch.compile(getattr(self, part), backend="aot_eager"))


@everyone
def test_t20_all_is_bit_identical_when_parts_are_compiled_in_configure_model(purity, name):
    _, shown = purity.check(Cell(Parts, stages=("fit", "validate")), name)
    assert shown["compiled"]["stats"]["unique_graphs"] >= 3


@pytest.mark.parametrize(("module", "name"), crossed([Dense, Parts]))
def test_a_compiled_module_is_explained_as_it_is_without_compilation(purity, module, name):
    compiled, _ = purity.check(
        Cell(module, compiled="aot_eager" if module is Dense else None, stages=("validate",)), name
    )
    eager, _ = purity.check(Cell(Toy if module is Parts else module, stages=("validate",)), name)
    records = [[told(row) for _, row in monitor.found] for monitor in (compiled, eager)]
    assert records[0] == records[1]


def test_the_matrix_meets_accumulated_gradients_and_a_layer_that_is_frozen(purity):
    seen = purity.plain(CELLS["32-true-accumulation-eager"])["seen"]
    states = [each["state"] for each in seen if each["when"] == "validation"]
    assert any(gradient is not None for state in states for gradient in state["grads"].values())
    training = [each["state"]["flags"] for each in seen if each["when"] == "train"]
    assert all(flags["norm"] and not flags["frozen"] for flags in training)
    assert not states[0]["requires_grad"]["frozen.weight"]


# The same attributions from every entry point


def rows_of(stage, tmp_path, **options):
    """The records that a Monitor finds in one entry point of one untrained module."""
    torch.manual_seed(0)
    module, found = Toy(), []

    class Keeps(SaliencyMonitor):
        def update(self, metrics, probe, row):
            found.append(row)
            super().update(metrics, probe, row)

    watcher = Keeps(
        **{"method": IntegratedGradients(steps=8), "task": ToyTask(wordpiece()), "probes": 4, "on_error": "raise"}
        | options
    )
    trainer = Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=1,
        precision="bf16-mixed" if stage.endswith("bf16") else "32-true",
        val_check_interval=1,
        num_sanity_val_steps=0,
        callbacks=[watcher],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    train, val = loaders()
    if stage.startswith("fit"):
        module.configure_optimizers = lambda: torch.optim.SGD(Toy.parameters(module), lr=0.0)
        module.training_step = lambda batch, batch_idx: 0 * sum(p.sum() for p in module.parameters())
        trainer.fit(module, train, val)
    else:
        getattr(trainer, stage.removesuffix("-bf16"))(module, val, **({} if "predict" in stage else {"verbose": False}))
    return found


def test_t21_all_entry_points_give_the_same_attributions(tmp_path):
    reference = [row.scores for row in rows_of("validate", tmp_path)]
    assert len(reference) == 4
    assert max(abs(s) for s in reference[0]) > 0
    for stage in ("fit", "test", "predict", "fit-bf16", "validate-bf16"):
        assert [row.scores for row in rows_of(stage, tmp_path)] == reference, stage


def test_t21_the_models_own_precision_costs_error_that_is_logged(tmp_path):
    exact = rows_of("validate-bf16", tmp_path, method=IntegratedGradients(steps=32, tolerance=None))
    coarse = rows_of("validate-bf16", tmp_path, precision="model", method=IntegratedGradients(steps=32, tolerance=None))
    assert max(abs(row.error) for row in exact) < 1e-5
    assert max(abs(row.error) for row in coarse) > 1e-4


def test_half_precision_weights_are_explained_in_single_precision(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, trainer = fit([watched("SaliencyMonitor")], tmp_path, precision="bf16-true")
    assert trainer.callback_metrics["interpret/saliency/relative_error"] < 0.01
