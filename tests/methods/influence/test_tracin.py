import pytest
import torch
from digits import DigitsTask, digits, network, split
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from purity import assert_same, state_of
from tiny import quiet_trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

from lightning_interpret.methods.influence import GradientSimilarity, TracIn
from lightning_interpret.trainer.checkpoints import run_checkpoints

TASK = DigitsTask()


class Net(LightningModule):
    """The digits network as a user writes it; two groups of parameters, with learning rates of their own."""

    def __init__(self, groups=1):
        super().__init__()
        self.model, self.groups = network(hidden=8), groups

    def forward(self, pixels):
        return self.model(pixels)

    def training_step(self, batch, index):
        return cross_entropy(self(batch["pixels"]), batch["labels"])

    def configure_optimizers(self):
        last = {"params": self.model[2].parameters(), "lr": 0.05}
        groups = [{"params": self.model[0].parameters()}, last] if self.groups == 2 else self.parameters()
        optimizer = torch.optim.SGD(groups, lr=0.2, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]


def part(count, start=0):
    return {name: values[start : start + count] for name, values in digits()[0].items()}


def run(folder, groups=1, **options):
    """Train for three epochs: the trainer, which has checkpoints, and the module."""
    module, saved = Net(groups), ModelCheckpoint(dirpath=folder / "kept", **{"save_top_k": -1, **options})
    trainer = quiet_trainer(folder, max_epochs=3, callbacks=[saved], enable_checkpointing=True)
    trainer.fit(module, DataLoader(split(part(100), 25), batch_size=None))
    return trainer, module


def by_hand(paths, rates, train, queries, groups=1):
    """Return the scores of a loop over checkpoints and examples, in double precision."""
    total = torch.zeros(len(queries["labels"]), len(train["labels"]), dtype=torch.float64)
    for path, rate in zip(paths, rates, strict=True):
        net = Net(groups).double()
        net.load_state_dict(torch.load(path, weights_only=False)["state_dict"])
        rows = []
        for batch in (queries, train):
            losses = cross_entropy(net(batch["pixels"].double()), batch["labels"], reduction="none")
            found = [torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for loss in losses]
            rows.append([torch.stack(each).flatten(1) for each in zip(*found, strict=True)])
        each = rate if isinstance(rate, list) else [rate] * 4
        total += sum(r * q @ t.T for r, q, t in zip(each, *rows, strict=True))
    return total


def double(batch):
    return {**batch, "pixels": batch["pixels"].double()}


@pytest.mark.parametrize("window", [1, 2, 32])
def test_the_sum_over_a_runs_checkpoints_is_that_of_a_loop_in_python(tmp_path, window):
    trainer, module = run(tmp_path)
    found = run_checkpoints(trainer)
    stored = [torch.load(each.path, weights_only=False) for each in found]
    rates = [each["optimizer_states"][0]["param_groups"][0]["lr"] for each in stored]
    assert len(set(rates)) == 3
    assert [each.learning_rate for each in found] == rates
    assert [each["global_step"] for each in stored] == [4, 8, 12]

    train, queries = part(20), part(5, 500)
    module = module.double()
    exact = by_hand([each.path for each in found], rates, train, queries)
    before = state_of(module)
    data = split(double(train), 6)
    fitted = TracIn(window=window).fit(module, data, TASK, checkpoints=lambda: found)
    ids, scores = fitted.matrix(double(queries))
    assert ids.tolist() == list(range(20))
    torch.testing.assert_close(scores, exact, rtol=1e-6, atol=1e-9)
    own = by_hand([each.path for each in found], rates, train, train).diagonal()
    torch.testing.assert_close(fitted.self_influence()[1], own, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(fitted.self_influence(split(double(train), 20))[1], own, rtol=1e-6, atol=1e-9)
    summed = fitted.scores(iter(split(double(queries), 2)), k=1, aggregate=True, details=False)[0]
    assert summed.helpful[0].score == pytest.approx(float(exact.sum(dim=0).max()), rel=1e-6)
    row = fitted.scores(double(queries), k=2)[3]
    assert row.helpful[0].example_id == int(exact[3].argmax())
    assert row.approximation.unit == "sum over checkpoints of learning rate × gradient product"
    assert row.approximation.notes[0].startswith("3 checkpoints")
    assert_same(before, state_of(module))


def test_each_group_of_parameters_has_its_own_learning_rate(tmp_path):
    trainer, module = run(tmp_path, groups=2)
    found = run_checkpoints(trainer)
    assert found[0].learning_rate["model.0.weight"] == 4 * found[0].learning_rate["model.2.bias"]
    rates = [[each.learning_rate[name] for name, _ in module.named_parameters()] for each in found]
    train, queries = part(20), part(5, 500)
    exact = by_hand([each.path for each in found], rates, train, queries, groups=2)
    given = TracIn().fit(module.double(), [double(train)], TASK, checkpoints=found)
    torch.testing.assert_close(given.matrix(double(queries))[1], exact, rtol=1e-6, atol=1e-9)
    paths = [each.path for each in found]
    read = TracIn(paths).fit(module, [double(train)], TASK, optimizer=trainer.optimizers)
    torch.testing.assert_close(read.matrix(double(queries))[1], exact, rtol=1e-6, atol=1e-9)
    own = by_hand(paths, rates, train, train, groups=2).diagonal()
    torch.testing.assert_close(read.self_influence()[1], own, rtol=1e-6, atol=1e-9)
    with pytest.raises(ValueError, match=r"several learning rates, \[.*give `fit\(\.\.\., optimizer="):
        TracIn(paths).fit(module, [double(train)], TASK)


def test_the_current_weights_are_the_last_checkpoint_if_asked(tmp_path):
    trainer, module = run(tmp_path)
    train, queries = [part(20)], part(5, 500)
    found = run_checkpoints(trainer)
    files = TracIn().fit(module, train, TASK, checkpoints=found[:2]).matrix(queries)[1]
    both = TracIn(current=True).fit(module, train, TASK, checkpoints=found[:2], optimizer=trainer.optimizers)
    rate = trainer.optimizers[0].param_groups[0]["lr"]
    dot = GradientSimilarity("dot").fit(module, train, TASK).matrix(queries)[1]
    torch.testing.assert_close(both.matrix(queries)[1], files + rate * dot)
    alone = TracIn(current=True, learning_rates=0.3).fit(module, train, TASK)
    torch.testing.assert_close(alone.matrix(queries)[1], 0.3 * dot)
    with pytest.raises(ValueError, match="learning rate of the live optimizer, and there is none"):
        TracIn(current=True).fit(module, train, TASK)


def test_a_copy_of_the_last_checkpoint_counts_once_and_what_is_deleted_not_at_all(tmp_path):
    trainer, _ = run(tmp_path, save_last=True)
    assert (tmp_path / "kept" / "last.ckpt").is_file()
    assert len(run_checkpoints(trainer)) == 3
    (tmp_path / "kept" / "last.ckpt").unlink()
    next((tmp_path / "kept").glob("epoch=0*")).unlink()
    assert len(run_checkpoints(trainer)) == 2


def test_a_learning_rate_of_zero_adds_nothing_and_is_said(tmp_path):
    trainer, module = run(tmp_path)
    paths, train, queries = [each.path for each in run_checkpoints(trainer)], [part(20)], part(5, 500)
    fitted = TracIn(paths, [0.0, 0.0, 0.0]).fit(module, train, TASK)
    assert (fitted.matrix(queries)[1] == 0).all()
    assert "3 of learning rate 0" in fitted.approximation.notes[0]
    assert fitted.scores(queries)[0].helpful == ()


def test_what_is_no_checkpoint_of_this_module_is_refused_by_name(tmp_path):
    trainer, module = run(tmp_path)
    path, train = run_checkpoints(trainer)[0].path, [part(20)]
    with pytest.raises(ValueError, match=r"another module than this Sequential: 4 missing .* 4 unknown"):
        TracIn([path]).fit(module.model, train, TASK)
    wide = Net()
    wide.model = network(hidden=9)
    with pytest.raises(ValueError, match=r"3 of another shape \(model\.0\.weight"):
        TracIn([path]).fit(wide, train, TASK)
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.ckpt"):
        TracIn([str(tmp_path / "nowhere.ckpt")]).fit(module, train, TASK)
    (tmp_path / "broken.ckpt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match=r"broken\.ckpt' cannot be read"):
        TracIn([str(tmp_path / "broken.ckpt")]).fit(module, train, TASK)
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="holds no optimizer, so no learning rate"):
        TracIn([str(tmp_path / "weights.pt")]).fit(module, train, TASK)
    assert TracIn([str(tmp_path / "weights.pt")], 0.1).fit(module, train, TASK).points[0][1] == 0.1
    with pytest.raises(ValueError, match="the run has written none"):
        TracIn().fit(module, train, TASK)
    with pytest.raises(ValueError, match=r"one number for each of the 1 `checkpoints`"):
        TracIn([path], [0.1, 0.2])
    with pytest.raises(ValueError, match="`window=0`"):
        TracIn([path], window=0)


def test_a_checkpoint_that_holds_more_than_weights_is_read_in_full_and_says_so(tmp_path):
    trainer, module = run(tmp_path)
    path, train = run_checkpoints(trainer)[0].path, [part(20)]
    found = torch.load(path, weights_only=False)
    torch.save(found | {"hyper_parameters": {"loss": nn.CrossEntropyLoss()}}, tmp_path / "more.ckpt")
    fitted = TracIn([path, str(tmp_path / "more.ckpt")]).fit(module, train, TASK)
    assert "1 read as full pickles" in fitted.approximation.notes[0]
    once = TracIn([path]).fit(module, train, TASK)
    torch.testing.assert_close(fitted.self_influence()[1], 2 * once.self_influence()[1])


class Tied(nn.Module):
    """A frozen layer that its checkpoints leave out, a buffer that follows the weights, and a shared layer."""

    def __init__(self):
        super().__init__()
        self.frozen, self.first, self.last = nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 10)
        self.frozen.requires_grad_(False)
        self.again = self.first
        self.register_buffer("shift", torch.zeros(6))

    def forward(self, pixels):
        return self.last(torch.tanh(self.again(torch.tanh(self.first(self.frozen(pixels) + self.shift)))))


def test_shared_layers_buffers_and_frozen_layers_follow_the_checkpoint(tmp_path):
    module, other = Tied(), Tied()
    other.frozen = module.frozen
    other.shift += 1.0
    kept = {name: value for name, value in other.state_dict().items() if not name.startswith("frozen")}
    torch.save({"state_dict": kept}, tmp_path / "other.ckpt")
    train, queries = split(part(20), 7), part(5, 500)
    fitted = TracIn([str(tmp_path / "other.ckpt")], 0.5).fit(module, train, TASK)
    exact = GradientSimilarity("dot").fit(other, train, TASK).matrix(queries)[1]
    torch.testing.assert_close(fitted.matrix(queries)[1], 0.5 * exact)


def test_the_record_says_what_is_not_covered_beside_the_checkpoints():
    module = nn.Sequential(nn.Linear(64, 10), nn.PReLU())
    notes = TracIn(current=True, learning_rates=0.3).fit(module, [part(20)], TASK).approximation.notes
    assert notes == ("not covered: 1.weight", "1 checkpoint; the last of them the weights as they are")


def test_captums_tracincp_finds_the_same(tmp_path):
    from captum.influence import TracInCP

    trainer, module = run(tmp_path)
    found, train, queries = run_checkpoints(trainer), part(40), part(6, 500)

    def loaded(net, path):
        state = torch.load(path, weights_only=False)
        net.load_state_dict(state["state_dict"])
        return state["optimizer_states"][0]["param_groups"][0]["lr"]

    rows = torch.utils.data.TensorDataset(train["pixels"], train["labels"])
    loss = nn.CrossEntropyLoss(reduction="none")
    paths = [each.path for each in found]
    peer = TracInCP(Net(), rows, paths, loaded, loss_fn=loss, batch_size=8, sample_wise_grads_per_batch=False)
    theirs = peer.influence((queries["pixels"], queries["labels"]))
    fitted = TracIn().fit(module, split(train, 16), TASK, checkpoints=found)
    torch.testing.assert_close(fitted.matrix(queries)[1], theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fitted.self_influence()[1], peer.self_influence(), rtol=1e-5, atol=1e-5)
