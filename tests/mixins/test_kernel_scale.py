"""The unit of a kernel's scale: it follows the encoder, and dropout that moves features farther than they lie apart."""

import pytest
import torch
from kernel_toys import Net, batch_of, fit, logits_of, rows, seeded
from torch import nn
from torch.nn import functional as F

from lightning_interpret import TurnOverDropoutMixin
from lightning_interpret.functional.kernels import median_square


class FromScratch(Net):
    """Features of examples differ by a thousandth at first, and dropout moves them far more."""

    def __init__(self, **options):
        super().__init__(**options)
        with torch.no_grad():
            self.first.weight.mul_(1e-3)
            self.first.bias.fill_(1)

    def forward(self, batch):
        return self.last(F.dropout(torch.tanh(self.first(batch["x"])), 0.1, self.training))


class Both(TurnOverDropoutMixin, Net):
    """Its hidden layer is masked."""

    def __init__(self, **options):
        super().__init__(turn_over_layers=["first"], **options)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_an_encoder_that_tells_no_example_from_another_is_trained(kernel, tmp_path):
    model, starts = seeded(FromScratch, kernel=kernel, kernel_rtol=1e-2), []
    model.begin_step = lambda batch: starts.append((model.kernel.rank, float(model.kernel.features.std(dim=0).max())))
    fit(model, tmp_path, max_epochs=8)
    assert starts[0][0] > 1
    assert starts[0][1] > 0.05  # its landmarks differ by dropout alone
    right = (logits_of(model).argmax(dim=1) == batch_of(rows())["labels"]).float().mean()
    assert right > 0.9
    model.refresh_landmarks()
    data = {int(row["example_id"]): row["x"] for row in rows()}
    x = torch.stack([data[each.example_id] for each in model.kernel.landmarks])
    assert torch.allclose(model.kernel.features, torch.tanh(model.first(x)), atol=1e-6)  # without it in the end


def test_the_unit_is_measured_as_training_meets_examples(tmp_path):
    model = seeded(Both, kernel_refresh="never")
    first = seeded(Both).first
    fit(model, tmp_path, max_epochs=1)
    data = batch_of(rows())
    mask = model.turn_over_dropout.factors("first", data["example_id"], 6)
    assert (mask == 0).any()
    met = torch.tanh(first(data["x"]) * mask).detach().double()
    assert float(model.kernel.gram.kernel.unit) == pytest.approx(median_square(met), rel=1e-5)
    assert not model.turn_over_dropout.training or model.training


def test_the_first_epoch_refreshes_after_a_power_of_two_of_steps(tmp_path):
    model, steps = seeded(Net), []
    refresh = model.refresh_landmarks
    model.refresh_landmarks = lambda **_: (steps.append(model.trainer.global_step), refresh())
    fit(model, tmp_path, max_epochs=3)  # 6 steps an epoch
    assert steps == [1, 2, 4, 6, 12]


def test_a_scale_that_makes_every_value_zero_is_said(tmp_path):
    with pytest.warns(UserWarning, match="nothing is learnt"):
        fit(seeded(FromScratch, kernel_options={"scale": 1e4}), tmp_path, max_epochs=1)


def test_one_landmark_is_no_reason_to_warn_or_to_fail(tmp_path):
    data = [row | {"labels": torch.tensor(0)} for row in rows()]
    model = seeded(Net, kernel_landmarks=1)
    fit(model, tmp_path, data, max_epochs=1)
    assert model.kernel.rank == 1
    assert nn.utils.parameters_to_vector(model.parameters()).isfinite().all()
