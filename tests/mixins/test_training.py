"""Joint methods over the ways to train: what they make of each example is the same in all of them."""

import math

import pytest
import torch
from joint_training import KINDS, Net, fit, made, weights
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from purity import watched
from torch.optim.swa_utils import get_ema_avg_fn

from lightning_interpret import TurnOverDropoutMixin

CELLS = {
    "plain": {},
    "late": {"way": "late"},
    "manual": {"way": "manual"},
    "checkpointed": {"way": "checkpointed"},
    "compiled": {"compiled": "aot_eager"},
    "logged": {"logger": True},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "bf16-true": {"precision": "bf16-true"},
    "accumulated": {"accumulate_grad_batches": 3},
    "closures": {"way": "closures"},
    "alternating": {"way": "alternating"},
}
SAME = ("late", "manual", "checkpointed", "compiled", "logged")  # to the bit, but for what is compiled
QUICK = {("turn_over", cell) for cell in CELLS} | {("both", cell) for cell in ("plain", "late", "checkpointed")}
QUICK |= {("concepts", cell) for cell in ("plain", "compiled", "bf16-true", "manual")}
QUICK |= {("spans", cell) for cell in ("late", "manual", "checkpointed", "bf16-true")}

slow = pytest.mark.slow
every = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[slow] if kind == "reversed" else []) for kind in KINDS]
)


def run(kind, cell, folder, **changes):
    """Train in a cell; return the module and the trainer."""
    options = CELLS[cell] | changes
    if options.get("logger"):
        options["logger"] = TensorBoardLogger(folder)
    torch._dynamo.reset()
    module = made(kind, way=options.pop("way", ""), **({"rate": options.pop("rate")} if "rate" in options else {}))
    return module, fit(module, folder, **options)


def assert_equal(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=tolerance), name


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Modules trained as usual, each once."""
    known = {}

    def plain(kind):
        if kind not in known:
            known[kind], _ = run(kind, "plain", tmp_path_factory.mktemp("plain"))
        return known[kind]

    return plain


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        pytest.param(kind, cell, marks=[] if (kind, cell) in QUICK else [slow], id=f"{kind}-{cell}")
        for kind in KINDS
        for cell in CELLS
    ],
)
def test_every_way_to_train(plain, kind, cell, tmp_path):
    module, trainer = run(kind, cell, tmp_path)
    usual = plain(kind)
    assert all(map(math.isfinite, module.losses))
    moved = [name for name, value in module.named_parameters() if not torch.equal(value, start(kind)[name].to(value))]
    assert {"embedding.weight", "first.weight", "last.weight"} <= set(moved)
    assert trainer.callback_metrics["val_loss"].isfinite()
    assert module.met == usual.met  # each example has its own mask, whatever computes it
    if issubclass(KINDS[kind], TurnOverDropoutMixin):
        assert 0 < sum(map(sum, module.met.values())) < 24 * 8
    if cell in SAME:
        tolerance = 1e-6 if cell == "compiled" else 0.0
        assert module.losses == pytest.approx(usual.losses, rel=0, abs=tolerance)
        assert_equal(weights(usual), weights(module), tolerance)
    if cell.startswith("bf16"):
        assert module.losses == pytest.approx(usual.losses, rel=0.1)


def start(kind):
    module = made(kind)
    module.configure_model()
    return dict(module.named_parameters())


@every
def test_accumulated_gradients_are_those_of_one_batch(kind, tmp_path):
    parts, _ = run(kind, "accumulated", tmp_path)
    whole, _ = run(kind, "plain", tmp_path, batch_size=12)
    assert_equal(weights(whole), weights(parts), 2e-6)


@every
def test_a_run_that_is_resumed_is_one_that_was_not_interrupted(plain, kind, tmp_path):
    first = made(kind)
    keeps = ModelCheckpoint(tmp_path, filename="middle", every_n_train_steps=6)
    fit(first, tmp_path, max_epochs=1, enable_checkpointing=True, callbacks=[keeps])
    second = made(kind)
    torch.rand(3)  # whatever has been drawn since
    fit(second, tmp_path, ckpt_path=tmp_path / "middle.ckpt")
    assert [*first.losses, *second.losses] == plain(kind).losses
    assert_equal(weights(plain(kind)), weights(second))


@every
def test_averaged_weights_are_validated_and_the_run_is_the_same(plain, kind, tmp_path):
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging").WeightAveraging
    module = made(kind)
    with pytest.warns(UserWarning, match="configure_model"):
        trainer = fit(module, tmp_path, callbacks=[averaging(avg_fn=get_ema_avg_fn(0.9))], max_epochs=1)
    alone = made(kind)
    usual = fit(alone, tmp_path, max_epochs=1)
    assert module.losses == alone.losses
    assert module.met == alone.met
    assert trainer.callback_metrics["val_loss"] != usual.callback_metrics["val_loss"]
    assert plain(kind).losses[:6] == module.losses


@every
@pytest.mark.parametrize("options", [{"fast_dev_run": 2}, {"barebones": True, "enable_progress_bar": None}])
def test_brief_and_bare_runs(kind, options, tmp_path):
    module = made(kind)
    if options.get("barebones"):
        options = {**options, "logger": None, "enable_checkpointing": None, "enable_model_summary": None}
    fit(module, tmp_path, **options)
    assert all(map(math.isfinite, module.losses))
    assert len(module.losses) == (2 if "fast_dev_run" in options else 12)


@pytest.mark.parametrize(
    ("kind", "monitors"),
    [
        pytest.param(kind, monitors, marks=[] if kind == "both" and len(monitors) == 3 else [slow])
        for kind in KINDS
        for monitors in (
            ("SaliencyMonitor", "InfluenceMonitor", "NeighborMonitor"),
            *(("SaliencyMonitor",), ("InfluenceMonitor",), ("NeighborMonitor",)),
        )
    ],
)
def test_monitors_on_the_same_module_leave_the_run_as_it_is(plain, kind, monitors, tmp_path):
    exact = {"InfluenceMonitor": {"method": "exact"}}
    watching = [watched(name, **exact.get(name, {})) for name in monitors]
    module = made(kind)
    fit(module, tmp_path, callbacks=watching)
    assert all(monitor.found for monitor in watching)
    assert module.losses == plain(kind).losses
    assert_equal(weights(plain(kind)), weights(module))


@pytest.mark.parametrize("kind", ["turn_over", "kernel", "both", "spans"])
def test_the_module_learns(kind, tmp_path):
    module, _ = run(kind, "plain", tmp_path, max_epochs=30, rate=0.2)
    own = Net(rate=0.2)
    fit(own, tmp_path, max_epochs=30)
    for losses in (module.losses, own.losses):
        assert sum(losses[-6:]) < 0.7 * sum(losses[:6])
