"""A span layer over a training: λ rises to what was asked for, also after a checkpoint; layers that do not run."""

import pytest
import torch
from joint_training import Spans as Steady
from joint_training import fit, weights
from lightning.pytorch.callbacks import ModelCheckpoint


class Spans(Steady):
    """Writes down λ at each step."""

    def __init__(self, **options):
        super().__init__(**{"span_ramp": 0.5, "span_sharpness": 2.0} | options)
        self.lambdas = []

    def add_term(self, name, value):
        super().add_term(name, value)
        self.lambdas.append(float(self._span_share) * self._span_sharpness)


def test_lambda_rises_over_the_first_half_by_default(tmp_path):
    module = Spans()
    fit(module, tmp_path)  # two epochs of six steps
    assert module.lambdas == pytest.approx([min(2.0, i / 3) for i in range(12)])
    assert float(module._span_share) == 1.0


@pytest.mark.parametrize(
    ("options", "trainer", "expected"),
    [
        ({"span_ramp": 0.0}, {}, [2.0] * 12),
        ({"span_ramp": 1.0}, {}, [i / 6 for i in range(12)]),
        ({}, {"accumulate_grad_batches": 3}, [0.0] * 3 + [1.0] * 3 + [2.0] * 6),
        ({}, {"max_epochs": -1, "max_steps": 4}, [0.0, 1.0, 2.0, 2.0]),
        ({}, {"max_epochs": -1, "max_time": {"seconds": 1}}, None),
    ],
)
def test_it_rises_by_steps_of_the_optimizer_over_the_share_that_was_asked_for(options, trainer, expected, tmp_path):
    module = Spans(**options)
    fit(module, tmp_path, **trainer)
    if expected is None:  # of a training that has no end it is whole
        assert set(module.lambdas) == {2.0}
    else:
        assert module.lambdas == pytest.approx(expected)


def test_a_run_that_is_resumed_goes_on_with_the_same_lambda(tmp_path):
    whole, first, second = Spans(), Spans(), Spans()
    fit(whole, tmp_path)
    keeps = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=6, save_top_k=-1)
    fit(first, tmp_path, enable_checkpointing=True, callbacks=[keeps])
    fit(second, tmp_path, ckpt_path=tmp_path / "step=6.ckpt")
    assert second.lambdas == whole.lambdas[6:]
    assert second.losses == whole.losses[6:]
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(whole).items())


@pytest.mark.parametrize("options", [{"span_layer": "unused"}, {"span_head": "unused"}])
def test_layers_that_the_step_does_not_call_are_told(options, tmp_path):
    class Unused(Steady):
        def build(self):
            super().build()
            self.unused = torch.nn.Linear(8, 8)

    with pytest.raises(ValueError, match="spans have not been weighed and read in this training step"):
        fit(Unused(**options), tmp_path)
