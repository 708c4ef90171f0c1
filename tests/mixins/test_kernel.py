"""A kernel layer before a head: attached, chosen, trained, refreshed, taken out."""

import copy

import pytest
import torch
from kernel_toys import Net, Plain, batch_of, fit, logits_of, rows, seeded
from torch import nn

from lightning_interpret.layers.nystroem import NystroemLayer


class OwnCall(Net):
    """Calls the layer in its own forward."""

    def __init__(self, **options):
        super().__init__(**options)
        self.kernel = self.kernel_layer(6)
        self.last = nn.Linear(8, 3)

    def forward(self, batch):
        return self.last(self.kernel(torch.tanh(self.first(batch["x"]))))


@pytest.mark.parametrize("kind", [Net, OwnCall])
def test_landmarks_are_training_examples_as_the_head_sees_them(kind, tmp_path):
    model = seeded(kind, kernel_refresh="never", kernel_rtol=1e-6)
    start = copy.deepcopy(model.first)
    fit(model, tmp_path)
    known = model.kernel.landmarks
    data = {int(row["example_id"]): row for row in rows()}
    assert len({each.example_id for each in known}) == 8
    assert [each.label for each in known] == [str(int(data[each.example_id]["labels"])) for each in known]
    x = torch.stack([data[each.example_id]["x"] for each in known])
    assert torch.allclose(model.kernel.features, torch.tanh(start(x)), atol=1e-6)
    assert model.kernel.rank == 8
    assert model.losses[-1] < 0.7 * model.losses[0]


def test_refreshed_landmarks_are_those_of_the_encoder_at_the_start_of_the_epoch(tmp_path):
    model = seeded(Net)
    starts = []
    model.on_train_epoch_end = lambda: starts.append(copy.deepcopy(model.first))
    fit(model, tmp_path, max_epochs=3)
    data = {int(row["example_id"]): row["x"] for row in rows()}
    x = torch.stack([data[each.example_id] for each in model.kernel.landmarks])
    assert torch.allclose(model.kernel.features, torch.tanh(starts[1](x)), atol=1e-6)
    assert not torch.allclose(model.kernel.features, torch.tanh(starts[0](x)), atol=1e-3)
    before = model.kernel.features.clone()
    model.refresh_landmarks()
    assert torch.allclose(model.kernel.features, torch.tanh(model.first(x)), atol=1e-6)
    assert not torch.allclose(model.kernel.features, before, atol=1e-3)


def test_a_number_of_steps_is_a_refresh_too(tmp_path):
    model, steps = seeded(Net, kernel_refresh=4), []
    refresh = model.refresh_landmarks
    model.refresh_landmarks = lambda **_: (steps.append(model.trainer.global_step), refresh())
    fit(model, tmp_path, accumulate_grad_batches=2, max_epochs=4)  # 3 steps an epoch
    assert steps == [4, 8]


def test_gradients_reach_encoder_kernel_projection_and_head(tmp_path):
    model = seeded(Net)
    fit(model, tmp_path)
    model.train()
    model.loss(batch_of(rows())).backward()
    found = {name: float(weight.grad.abs().max()) for name, weight in model.named_parameters()}
    wanted = {"first.weight", "kernel.projection", "kernel.gram.kernel.log_scale", "last.weight", "last.bias"}
    assert wanted <= set(found)
    assert all(value > 0 for value in found.values())


def test_a_linear_kernel_whose_landmarks_span_the_features_has_every_plain_head_in_it(tmp_path):
    options = {"kernel": "linear", "kernel_projection": "fixed", "kernel_choice": "greedy", "kernel_rtol": 1e-6}
    model = seeded(Net, **options)
    fit(model, tmp_path, precision="64-true", max_epochs=1)
    x = torch.stack([row["x"] for row in rows()]).double()
    hidden = torch.tanh(model.first(x)).detach()
    plain = torch.randn(6, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weight = torch.linalg.lstsq(model.kernel(hidden).detach(), hidden @ plain).solution
    assert torch.allclose(model.kernel(hidden) @ weight, hidden @ plain, atol=1e-8)
    assert model.kernel.rank == 6


def test_taken_out_it_leaves_the_plain_module_bit_for_bit(tmp_path):
    plain, model = seeded(Plain), seeded(Net)
    model.configure_model()
    assert model.last.in_features == 8
    model.detach_kernel()
    assert {name: type(part) for name, part in model.named_modules() if name} == {
        name: type(part) for name, part in plain.named_modules() if name
    }
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), plain.state_dict().values(), strict=True))
    assert torch.equal(logits_of(model), logits_of(plain))
    model.configure_model()  # which attaches what was never detached
    assert torch.equal(logits_of(model), logits_of(plain))
    model.attach_kernel()
    with pytest.raises(ValueError, match="already"):
        model.attach_kernel()


def test_a_copy_reads_through_its_own_layer(tmp_path):
    model = seeded(Net)
    fit(model, tmp_path)
    twin = copy.deepcopy(model)
    before = logits_of(model)
    assert torch.equal(logits_of(twin), before)
    twin.kernel.projection.data.zero_()
    assert not torch.equal(logits_of(twin), before)
    assert torch.equal(logits_of(model), before)
    twin.detach_kernel()
    assert torch.equal(logits_of(model), before)


def test_a_head_that_reads_as_many_numbers_stays(tmp_path):
    model = seeded(Net, kernel_landmarks=6)
    head = model.last
    fit(model, tmp_path)
    assert model.last is head
    assert isinstance(model.kernel, NystroemLayer)
    model.detach_kernel()
    assert model.last is head


def test_the_order_of_training_and_its_random_numbers_stay_the_same(tmp_path):
    orders = []
    for refresh in ("never", "epoch", 1):
        model, seen = seeded(Net, kernel_refresh=refresh), []
        model.begin_step = lambda batch, seen=seen: seen.append((batch["example_id"].tolist(), torch.rand(1).item()))
        fit(model, tmp_path)
        orders.append(seen)
    assert orders[0] == orders[1] == orders[2]


def test_the_error_of_the_approximation_is_logged(tmp_path):
    model = seeded(Net, kernel_rtol=1e-6)
    trainer = fit(model, tmp_path)
    assert 0 < trainer.callback_metrics["kernel/approximation_error"] < 1
    assert trainer.callback_metrics["kernel/rank"] == 8
    x = torch.stack([row["x"] for row in rows()])
    model.refresh_landmarks()
    hidden = torch.tanh(model.first(x)).detach().double()
    kernel = model.kernel.gram.kernel
    gram = torch.exp(-torch.cdist(hidden, hidden).square() * (kernel.log_scale.exp() / kernel.unit).item())
    ids = [int(row["example_id"]) for row in rows()]
    places = [ids.index(each.example_id) for each in model.kernel.landmarks]
    approximate = gram[:, places] @ torch.linalg.pinv(gram[places][:, places]) @ gram[places]
    expected = (gram - approximate).norm() / gram.norm()
    assert model.kernel_figures["kernel/approximation_error"] == pytest.approx(float(expected), rel=1e-4)
