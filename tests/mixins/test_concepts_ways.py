"""A concept bottleneck compiled, and its measures in several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from concept_toys import NAMES, Net, batch_of, fit, loader, seeded
from lightning.pytorch.callbacks import StochasticWeightAveraging
from tiny import quiet_trainer
from torch.utils.checkpoint import checkpoint


def test_a_compiled_module_is_intervened_in_and_left_again():
    torch._dynamo.reset()
    module, batch = seeded(), batch_of(6)
    module.configure_model()
    compiled = torch.compile(module.eval(), backend="eager")
    with torch.no_grad():
        for values in ({}, {"food": 1.0}, {}, {"food": torch.linspace(0, 1, 6), "music": 0.0}, {}):
            with module.intervene(values):
                assert torch.allclose(compiled(batch), module(batch), atol=1e-6)
                moved = compiled(batch)
            assert torch.equal(moved, compiled(batch)) == (not values)
    assert all(abs(row.error) < 1e-5 for row in module.explain(batch))


def test_in_half_precision_every_example_of_a_validation_counts(tmp_path):
    module, data = seeded(), loader(700, seed=1, batch_size=1)  # a count in bfloat16 would end at 256
    found = quiet_trainer(tmp_path, precision="bf16-true").validate(module, data, verbose=False)[0]
    with torch.no_grad():
        right = [module(batch).argmax(dim=1).eq(batch["labels"]).item() for batch in data]
    assert 0.3 < found["concepts/task_accuracy"] < 0.7
    assert found["concepts/task_accuracy"] == pytest.approx(sum(right) / len(right), abs=1e-6)


@pytest.mark.parametrize("early", [True, False])
def test_stochastic_averages_have_the_bottleneck(early, tmp_path):
    module = seeded()
    if early:
        module.configure_model()
    averaging = StochasticWeightAveraging(0.01, swa_epoch_start=2)
    fit(module, tmp_path, loader(), max_epochs=4, callbacks=[averaging])
    other = seeded()
    fit(other, tmp_path, loader(), max_epochs=4)
    assert not torch.equal(module.concepts.weight, other.concepts.weight)
    kept = averaging._average_model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in module.named_parameters())


def test_a_forward_that_is_computed_again_has_its_terms_once(tmp_path):
    class Again(Net):
        def forward(self, batch):
            return checkpoint(super().forward, batch, use_reentrant=False)

    found = [seeded(kind, concept_count=2, concept_names=list(NAMES)) for kind in (Net, Again)]
    logged = [fit(module, tmp_path).callback_metrics for module in found]
    assert all(map(torch.equal, *(module.parameters() for module in found)))
    assert logged[0]["train_concepts"] == logged[1]["train_concepts"]


SCRIPT = """
import sys, warnings, torch
warnings.simplefilter("ignore")
from concept_toys import Net, fit, loader, seeded

class Saves(Net):
    def on_fit_end(self):
        torch.save(dict(self.trainer.callback_metrics), f"{sys.argv[1]}/{self.global_rank}.pt")

data = loader(32), loader(64, seed=1, known=0.8, batch_size=8)
fit(seeded(Saves, concept_residual=True, rate=0.0), sys.argv[1], *data, devices=2, strategy="ddp_fork")
"""


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path):
    here = Path(__file__).parents[1]
    environment = {"PYTHONPATH": f"{here}:{here.parent}", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": os.defpath} | environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    data = loader(32), loader(64, seed=1, known=0.8, batch_size=8)
    alone = fit(seeded(concept_residual=True, rate=0.0), tmp_path, *data).callback_metrics
    names = ("accuracy", "task_accuracy", "intervened_accuracy", "ablated_accuracy", "residual_share", "leakage")
    for name in (f"concepts/{name}" for name in names):
        assert found[0][name] == found[1][name]
        if name != "concepts/leakage":  # whose halves are others where examples come in another order
            assert found[0][name].item() == pytest.approx(alone[name].item(), abs=1e-6), name
