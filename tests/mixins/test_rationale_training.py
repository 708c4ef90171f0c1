"""RationaleMixin over the ways to train: what is learnt is the same in all of them; with other methods beside it."""

import copy
import math
import pickle
import warnings

import pytest
import torch
from joint_training import RADIAL, SITES, WIDTH, Net, fit, weights
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from purity import watched
from rationale_toys import gated
from tiny import LONG, SHORT, batch_of
from torch.optim.swa_utils import get_ema_avg_fn

from lightning_interpret import JointMixin, KernelMixin, PlainTwin, RationaleMixin, TurnOverDropoutMixin


class Seeded(JointMixin):
    """Draws by what is in a batch, so that runs can be compared that draw other things besides."""

    def begin_step(self, batch):
        torch.manual_seed(int(batch["example_id"].sum()))
        super().begin_step(batch)

    def attach(self):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            super().attach()

    def loss(self, batch):
        loss = super().loss(batch)
        return loss if self.automatic_optimization else loss + self.auxiliary_loss()


class Selects(Seeded, RationaleMixin, Net):
    pass


class All(Seeded, RationaleMixin, TurnOverDropoutMixin, KernelMixin, Net):
    pass


class Reversed(Seeded, KernelMixin, TurnOverDropoutMixin, RationaleMixin, Net):
    pass


KINDS = {"selects": Selects, "all": All, "reversed": Reversed}
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
QUICK = {("all", "manual"), *(("selects", cell) for cell in CELLS if cell not in ("compiled", "alternating"))}
SAME = ("late", "manual", "checkpointed", "compiled", "logged")
slow = pytest.mark.slow


def made(kind="selects", **options):
    options = {"rationale_target": 0.3, "rationale_generator": "own"} | options
    if kind != "selects":
        options |= {"turn_over_layers": SITES, "kernel_landmarks": WIDTH} | RADIAL
    return KINDS[kind](**options)


def run(kind, cell, folder, **changes):
    options = CELLS[cell] | changes
    if options.get("logger"):
        options["logger"] = TensorBoardLogger(folder)
    torch._dynamo.reset()
    module = made(kind, way=options.pop("way", ""), **options.pop("own", {}))
    return module, fit(module, folder, **options)


def assert_equal(one, other, tolerance=0.0):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.allclose(value, other[name], rtol=0, atol=tolerance), name


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    known = {}

    def plain(kind="selects"):
        if kind not in known:
            known[kind], _ = run(kind, "plain", tmp_path_factory.mktemp("plain"))
        return known[kind]

    return plain


@pytest.mark.parametrize(
    ("kind", "cell"),
    [pytest.param(kind, cell, marks=[] if (kind, cell) in QUICK else [slow]) for kind in KINDS for cell in CELLS],
)
def test_every_way_to_train(plain, kind, cell, tmp_path):
    module, trainer = run(kind, cell, tmp_path)
    assert all(map(math.isfinite, module.losses))
    assert module.rationale.gate.weight.dtype == (torch.bfloat16 if cell == "bf16-true" else torch.float32)
    start = made(kind)
    start.configure_model()
    with torch.random.fork_rng():
        before = dict(start.named_parameters())
    gate = {name for name in before if name.startswith("rationale.")}
    moved = {name for name, value in module.named_parameters() if not torch.equal(value.float(), before[name])}
    assert len(gate) > 2
    assert moved >= {"embedding.weight", "first.weight", "last.weight", *gate}
    figures = trainer.callback_metrics
    assert {"rationale/rate", "rationale/target", "rationale/rate_eval", "rationale/gap"} <= figures.keys()
    assert figures["rationale/rate_eval"] == pytest.approx(2 / 7, abs=1e-4)
    if cell in SAME:
        tolerance = 1e-6 if cell == "compiled" else 0.0
        assert module.losses == pytest.approx(plain(kind).losses, rel=0, abs=tolerance)
        assert_equal(weights(plain(kind)), weights(module), tolerance)
    if cell.startswith("bf16") and kind == "selects":  # a draw may fall on the other side of what is rounded
        assert module.losses == pytest.approx(plain(kind).losses, rel=0.2)


def test_methods_go_together_in_either_order(tmp_path):
    one, _ = run("all", "plain", tmp_path)
    other, _ = run("reversed", "plain", tmp_path)
    assert one.losses == other.losses
    assert_equal(weights(one), weights(other))


@pytest.mark.parametrize("options", [{}, {"rationale_gate": "reinforce", "rationale_control": "lagrangian"}])
def test_a_run_that_is_resumed_is_one_that_was_not_interrupted(options, tmp_path):
    keeps = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=6, save_top_k=-1)
    whole, second = made(**options), made(**options)
    fit(whole, tmp_path, enable_checkpointing=True, callbacks=[keeps])
    torch.rand(3)
    fit(second, tmp_path, ckpt_path=tmp_path / "step=6.ckpt")
    assert second.losses == whole.losses[6:]
    assert_equal(weights(whole), weights(second))
    assert second.rationale.control.get_extra_state() == whole.rationale.control.get_extra_state()
    assert second.rationale.average == whole.rationale.average
    if options:
        assert whole.rationale.control.multiplier != 0.1
        assert whole.rationale.average is not None


def test_validation_moves_nothing(tmp_path):
    module, trainer = run("selects", "plain", tmp_path, own={"rationale_control": "lagrangian"})
    before = copy.deepcopy(module.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="The complement and the leak probe")
        (found,) = trainer.validate(module, trainer.val_dataloaders, verbose=False)
    assert found.keys() >= {"rationale/rate_eval", "rationale/complement_accuracy", "rationale/leak_probe"}
    assert found["rationale/leak_majority"] == pytest.approx(trainer.callback_metrics["rationale/leak_majority"])
    after = module.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name], name


def test_averaged_weights_are_validated_and_the_run_is_the_same(plain, tmp_path):
    averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging").WeightAveraging
    module = made()
    with pytest.warns(UserWarning, match="configure_model"):
        trainer = fit(module, tmp_path, callbacks=[averaging(avg_fn=get_ema_avg_fn(0.9))])
    assert module.losses == plain().losses
    assert trainer.callback_metrics["rationale/rate_eval"] == pytest.approx(2 / 7, abs=1e-4)


def test_the_plain_twin_has_no_gate_and_the_run_is_the_same(plain, tmp_path):
    module, twin = made(), PlainTwin(on_error="raise")
    trainer = fit(module, tmp_path, callbacks=[twin])
    assert module.losses == plain().losses
    assert "rationale" not in twin.twin._modules
    assert "rationale" in module._modules
    assert trainer.callback_metrics["interpret/twin/cost"].isfinite()


def test_monitors_leave_the_run_as_it_is(plain, tmp_path):
    watching = [watched(name) for name in ("SaliencyMonitor", "NeighborMonitor")]
    module = made()
    trainer = fit(module, tmp_path, callbacks=watching)
    assert all(monitor.found for monitor in watching)
    assert module.losses == plain().losses
    assert trainer.callback_metrics["rationale/rate_eval"] == pytest.approx(2 / 7, abs=1e-4)


@pytest.mark.parametrize("generator", ["own", "shared"])
def test_activations_that_are_computed_again_are_selected_alike(generator):
    module = gated("bert", rationale_generator=generator).train()
    batch = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1])
    found = []
    for again in (False, True):
        if again:
            module.model.gradient_checkpointing_enable()
        module.zero_grad()
        torch.manual_seed(1)
        module.training_step(batch, 0).backward()
        found.append(module.rationale.gate.weight.grad.clone())
    assert found[0].abs().sum() > 0
    assert torch.allclose(*found, atol=1e-7)


def test_a_copy_has_a_gate_of_its_own():
    module = gated("bert")
    copied = copy.deepcopy(module)
    batch = batch_of(module.tokenizer, [LONG, SHORT])
    with torch.no_grad():
        before = module(batch)
        assert torch.equal(copied(batch), before)
        copied.rationale.gate.weight.neg_()
        assert not torch.equal(copied(batch), before)
        assert torch.equal(module(batch), before)
        with copied.rationale.everything():
            assert torch.equal(module(batch), before)
        copied.detach_rationale()
        assert torch.equal(module(batch), before)


@pytest.mark.parametrize("name", ["bert", "t5"])
@pytest.mark.parametrize("how", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_can_be_made_after_a_step_that_was_not_followed_by_another_pass(name, how):
    module = gated(name).train()
    batch = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1])
    module.training_step(batch, 0).backward()
    copied = how(module).eval()
    assert torch.equal(copied(batch), module.eval()(batch))


def test_options_that_differ_from_those_of_a_checkpoint_are_told():
    state = gated("bert", rationale_target=0.5, rationale_keep_special=False).state_dict()
    told = r"`rationale_target=0.5` \(here: 0.3\), `rationale_keep_special=False` \(here: True\)"
    with pytest.warns(UserWarning, match=told):
        gated("bert").load_state_dict(state)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gated("bert").load_state_dict(gated("bert").state_dict())
        old = gated("bert").state_dict()
        del old["rationale._extra_state"]["options"]  # of a version that did not keep them
        gated("bert").load_state_dict(old)
