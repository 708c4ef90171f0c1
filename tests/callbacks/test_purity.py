"""Promise 1: training ends in the same bits with a Monitor and without it, also when it raises (cases T20, T21)."""

import copy
import warnings

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from purity import Toy, ToyTask, assert_same, fit, loaders
from tiny import wordpiece

from lightning_interpret import SaliencyMonitor
from lightning_interpret.methods import IntegratedGradients


def monitor(**options):
    return SaliencyMonitor(
        **{"method": IntegratedGradients(steps=4), "task": ToyTask(wordpiece()), "probes": 5, "max_seconds": None}
        | options
    )


class Raises(SaliencyMonitor):
    """Fails in the middle of an explanation, while the module is in another state."""

    def explain(self, module, batch, task):
        super().explain(module, batch, task)
        torch.rand(3)
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true", "64-true"])
@pytest.mark.parametrize("manual", [False, True], ids=["accumulation", "manual"])
def test_t20_training_is_bit_identical_with_and_without_the_monitor(tmp_path, precision, manual):
    plain, _ = fit([], tmp_path, precision=precision, manual=manual)
    watched, trainer = fit([monitor(on_error="raise")], tmp_path, precision=precision, manual=manual)
    assert_same(plain, watched)
    assert trainer.callback_metrics["interpret/saliency/failures"] == 0
    identities = {tuple(seen["parameters"]) for seen in watched["seen"]}
    assert len(identities) == 1  # the parameters are the same objects throughout
    alive = any(gradient is not None for seen in watched["seen"] for gradient in seen["grads"])
    assert alive != manual  # validation in the middle of an accumulation was met, and its gradients lived on


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_t20_training_is_bit_identical_when_the_method_raises(tmp_path, precision):
    plain, _ = fit([], tmp_path, precision=precision)
    failing = Raises(task=ToyTask(wordpiece()), probes=3, name="saliency")
    with pytest.warns(UserWarning, match="in the middle.*training goes on"):
        watched, trainer = fit([failing], tmp_path, precision=precision)
    assert_same(plain, watched)
    assert trainer.callback_metrics["interpret/saliency/failures"] == 3
    assert trainer.callback_metrics["interpret/saliency/attribution_error"].isnan()


def test_the_harness_sees_a_callback_that_disturbs(tmp_path):
    class Draws(SaliencyMonitor):
        def on_validation_epoch_end(self, trainer, pl_module):
            torch.rand(1)

    plain, _ = fit([], tmp_path)
    watched, _ = fit([Draws(task=ToyTask(wordpiece()), probes=2)], tmp_path)
    with pytest.raises(AssertionError):
        assert_same(plain, watched)


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
        _, trainer = fit([monitor(on_error="raise")], tmp_path, precision="bf16-true")
    assert trainer.callback_metrics["interpret/saliency/relative_error"] < 0.01


class Keeps(Toy):
    """Keeps what a forward made, counts, and changes a plain tensor that training reads."""

    def __init__(self):
        super().__init__()
        self.temperature, self.count, self.last = torch.ones(1), 0, None

    def forward(self, ids):
        self.count += 1
        self.temperature.mul_(1.01)
        self.last = super().forward(ids)
        return self.last

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * self.temperature.item()


class Copies(Callback):
    """What averaging callbacks do: a module that holds a graph cannot be copied."""

    def on_validation_end(self, trainer, pl_module):
        copy.deepcopy(pl_module)


def test_what_a_forward_writes_on_the_module_is_undone(tmp_path):
    options = {"module": Keeps, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    plain, _ = fit([Copies()], tmp_path, **options)
    watched, trainer = fit([monitor(on_error="raise"), Copies()], tmp_path, **options)
    assert_same(plain, watched)
    assert trainer.lightning_module.count == len(watched["seen"]) + 18  # a batch a validation, and the training steps
