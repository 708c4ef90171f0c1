"""A kernel layer in every way to train, and what is refused before the first step."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_toys import Net, Plain, batch_of, fit, logits_of, rows, seeded
from lightning.pytorch.callbacks import EMAWeightAveraging

TESTS = Path(__file__).parents[1]


class Manual(Net):
    """Steps its optimizer itself."""

    def __init__(self, **options):
        super().__init__(**options)
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Net, {"precision": "bf16-true"}),
        (Net, {"precision": "bf16-mixed"}),
        (Net, {"accumulate_grad_batches": 2}),
        (Manual, {}),
    ],
)
def test_it_trains_in_every_way(kind, options, tmp_path):
    model = seeded(kind, kernel_refresh=2)
    fit(model, tmp_path, max_epochs=5, **options)
    assert model.losses[-1] < 0.7 * model.losses[0]
    assert model.kernel.factor.dtype == model.kernel.features.dtype == model.kernel.projection.dtype == torch.float32
    assert model.kernel.rank > 0


def test_averaged_weights_are_validated_and_kept(tmp_path):
    model = seeded(Net)
    trainer = fit(model, tmp_path, max_epochs=4, callbacks=[EMAWeightAveraging(decay=0.8)])
    assert torch.isfinite(trainer.callback_metrics["val_loss"])
    accuracy = (logits_of(model).argmax(dim=1) == batch_of(rows())["labels"]).float().mean()
    assert accuracy > 0.8


def test_a_compiled_module_gives_the_same_scores(tmp_path):
    torch._dynamo.reset()
    model = seeded(Net)
    fit(model, tmp_path)
    compiled = torch.compile(model, backend="eager")
    data = batch_of(rows())
    with torch.no_grad():
        assert torch.allclose(compiled(data), model(data), atol=1e-6)


SCRIPT = """
import sys, warnings, torch
warnings.simplefilter("ignore")
from kernel_toys import Net, fit, loader, seeded
from tiny import quiet_trainer

class Saves(Net):
    def on_fit_end(self):
        torch.save(self.kernel.state_dict(), f"{sys.argv[1]}/{self.global_rank}.pt")

quiet_trainer(sys.argv[1], max_epochs=2, devices=2, strategy="ddp_fork").fit(seeded(Saves), loader())
"""


def test_every_process_has_the_same_landmarks(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name]


class NoHead(Plain):
    """Has no linear layer."""

    def __init__(self, **options):
        super().__init__(**options)
        del self.first, self.last


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kernel": "rfb"}, "Did you mean 'rbf'"),
        ({"kernel_options": {"gamma": 1.0}}, "gamma"),
        ({"kernel_choice": "best"}, "kernel_choice='best'"),
        ({"kernel_refresh": "step"}, "kernel_refresh='step'"),
        ({"kernel_refresh": 0}, "kernel_refresh=0"),
        ({"kernel_landmarks": 8, "kernel_candidates": 7}, "kernel_candidates=7"),
        ({"kernel_head": "lsat"}, "Did you mean 'last'"),
        ({"kernel_head": "kernel_head"}, "does not exist"),
        ({"kernel_landmarks": 40}, "only 36 training examples"),
        ({"kernel_landmarks": 2}, "fewer than the 3 classes"),
    ],
)
def test_what_cannot_work_is_refused(options, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        fit(seeded(Net, **options), tmp_path)


def test_a_module_without_a_head_is_refused(tmp_path):
    kind = type("KernelNoHead", (Net.__mro__[1], NoHead), {})
    model = kind(kernel_landmarks=8)
    model.configure_optimizers = lambda: None
    with pytest.raises(ValueError, match="no linear layer"):
        fit(model, tmp_path)


def test_features_that_are_not_finite_are_named(tmp_path):
    data = rows()
    data[4]["x"] = data[4]["x"] * float("nan")
    with pytest.raises(ValueError, match=r"1 training examples is not finite \(ids 104\)"):
        fit(seeded(Net), tmp_path, data)


def test_data_without_ids_are_refused(tmp_path):
    data = [{name: value for name, value in row.items() if name != "example_id"} for row in rows()]
    with pytest.raises(ValueError, match="WithIds"):
        fit(seeded(Net), tmp_path, data)


def test_a_layer_without_landmarks_says_so():
    model = seeded(Net)
    model.configure_model()
    with pytest.raises(RuntimeError, match="no landmarks yet"):
        logits_of(model)


def test_duplicated_examples_lower_the_rank(tmp_path):
    data = [row | {"example_id": torch.tensor(i)} for i, row in enumerate(rows(5) * 4)]
    model = seeded(Net, kernel_rtol=1e-6)
    with pytest.warns(UserWarning, match="duplicates"):
        fit(model, tmp_path, data)
    assert model.kernel.rank == 5
    assert bool(logits_of(model).isfinite().all())
