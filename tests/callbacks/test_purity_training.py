"""Promise 1 over the ways to train: every option and callback of Lightning's that a Monitor could meet."""

import copy
import random
import warnings
from functools import partial

import numpy
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.tuner import Tuner
from lightning.pytorch.utilities import CombinedLoader
from purity import MONITORS, STATEFUL, Cell, Texts, Toy, assert_same, crossed, loaders, state_of, watched
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

everyone = pytest.mark.parametrize("name", MONITORS)


# Modules


class Scheduled(Toy):
    """Learning rates by the step and by a metric that validation logs."""

    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0),
                "monitor": "val_loss",
                "interval": "step",
                "frequency": 2,
                "strict": False,
            },
        }


class Stepped(Toy):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Adversaries(Toy):
    """Two optimisers in turn, by hand."""

    def __init__(self):
        super().__init__(manual=True)

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            self.toggle_optimizer(optimizer)
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch))
            optimizer.step()
            self.untoggle_optimizer(optimizer)

    def configure_optimizers(self):
        body = [*self.embedding.parameters(), *self.rnn.parameters()]
        return torch.optim.SGD(body, lr=0.1, momentum=0.9), torch.optim.Adam(self.head.parameters())


class Elaborate(Toy):
    """What modules carry: hooks of their own, parametrizations of each kind, tied weights, a metric, noise."""

    def __init__(self):
        super().__init__()
        self.out, self.tied = nn.Linear(12, 24), nn.Linear(12, 24, bias=False)
        self.tied.weight = self.embedding.weight
        parametrizations.weight_norm(self.out)
        self.mix = parametrizations.spectral_norm(nn.Linear(12, 12))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.old = torch.nn.utils.spectral_norm(torch.nn.utils.weight_norm(nn.Linear(12, 12), "bias"))
        self.accuracy, self.met = MulticlassAccuracy(2), 0
        self.mix.register_forward_hook(self.meet)
        self.embedding.weight.register_hook(lambda grad: grad * 0.5)

    def meet(self, part, args, output):
        self.met += 1
        self.last = output
        return output + part.training * torch.rand(()) * random.random() * numpy.random.rand()

    def mixed(self, hidden):
        hidden = self.old(self.mix(self.rnn(hidden)[0]))
        return hidden + 0.1 * (self.out(hidden) + self.tied(hidden))[..., :12]

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return {**batch, "noise": torch.rand(()) + random.random() + numpy.random.rand()}

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.accuracy(self(batch["input_ids"]), batch["labels"])
        self.log("accuracy", self.accuracy)
        super().validation_step(batch, batch_idx, dataloader_idx)


class Logs(Toy):
    """Logs in its forward."""

    def forward(self, ids):
        logits = super().forward(ids)
        if self._trainer is not None and not self.trainer.predicting:
            self.log("mean_logit", logits.mean(), on_step=False, on_epoch=True)
            self.log_dict({"largest": logits.max()}, on_step=False, on_epoch=True)
        return logits


class Switches(Toy):
    """Does something of its own whenever it is put into training or evaluation mode."""

    def __init__(self):
        super().__init__()
        self.switched = 0

    def train(self, mode=True):
        self.switched = getattr(self, "switched", 0) + 1
        return super().train(mode)


class Alive(Toy):
    """Keeps its dropout in training mode where it is validated."""

    def on_validation_model_eval(self):
        super().on_validation_model_eval()
        self.dropout.train()


class Draws(Toy):
    """Draws from random generators of its own, also where it is evaluated."""

    def __init__(self):
        super().__init__()
        self.torch, self.python = torch.Generator(), random.Random(0)
        self.numpy, self.old = numpy.random.default_rng(0), numpy.random.RandomState(0)

    def forward(self, ids):
        draw = torch.rand((), generator=self.torch) + self.python.random() + self.numpy.random() + self.old.rand()
        return super().forward(ids) + self.training * draw


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


class Together(Toy):
    """Validates on a batch of each loader at once."""

    def validation_step(self, batch, batch_idx):
        for key, part in batch.items():
            if part is not None:
                self.log(f"val_loss_{key}", self.loss(part))


# Data


class Noisy(Texts):
    """Draws random numbers for every example, from every generator there is."""

    def __getitem__(self, i):
        noise = torch.rand(()) + random.random() + numpy.random.rand()
        return {**super().__getitem__(i), "noise": noise, "labels": (self.labels[i] + int(noise * 8)) % 2}


def working(persistent, both=True):
    """Loaders with a worker; ``both``: that of validation too."""
    return [
        DataLoader(
            Noisy(seed=seed),
            batch_size=4,
            shuffle=seed == 0,
            num_workers=workers,
            persistent_workers=persistent and workers > 0,
        )
        for seed, workers in ((0, 1), (1, int(both)))
    ]


def several(arrange):
    train, val = loaders()
    return train, arrange(val, DataLoader(Texts(size=12, seed=2), batch_size=3))


# Callbacks


class Copies(Callback):
    """What averaging callbacks do: a module that holds a graph cannot be copied."""

    def on_validation_end(self, trainer, pl_module):
        copy.deepcopy(pl_module)


def averaging(before, folder, *, ema=False):
    weight_averaging = pytest.importorskip("lightning.pytorch.callbacks.weight_averaging")
    average = weight_averaging.EMAWeightAveraging(decay=0.8) if ema else weight_averaging.WeightAveraging()
    best = ModelCheckpoint(folder, monitor="val_loss", save_top_k=2, filename="{step}-{val_loss:.9f}", save_last=True)
    return ([average], [best]) if before else ([], [average, best])


def choosing(folder):
    """Callbacks that act on the user's own metric."""
    best = ModelCheckpoint(folder, monitor="val_loss", save_top_k=2, filename="{step}-{val_loss:.9f}")
    return [EarlyStopping("val_loss", patience=2)], [best, ModelCheckpoint(folder, filename="last", save_last=True)]


CELLS = {
    "validation-by-epochs": Cell(options={"val_check_interval": None, "check_val_every_n_epoch": 1}),
    "no-sanity-check": Cell(options={"num_sanity_val_steps": 0}),
    "whole-sanity-check": Cell(options={"num_sanity_val_steps": -1}),
    "stops-amid-an-epoch": Cell(options={"max_steps": 3}),
    "clipping": Cell(options={"gradient_clip_val": 0.05}),
    "clipping-values": Cell(options={"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"}),
    "plateau": Cell(Scheduled, epochs=3),
    "scheduler-by-steps": Cell(Stepped),
    "two-optimizers-by-hand": Cell(Adversaries),
    "hooks-parametrizations-tied-weights": Cell(Elaborate, stages=("fit", "validate", "fit")),
    "hooks-parametrizations-in-half-precision": Cell(Elaborate, "bf16-mixed", stages=("fit", "validate", "fit")),
    "forward-that-logs": Cell(Logs, stages=("fit", "validate", "test")),
    "switches-of-its-own": Cell(Switches, stages=("fit", "validate", "fit")),
    "dropout-alive-in-validation": Cell(Alive, stages=("fit", "validate")),
    "generators-of-its-own": Cell(Draws, epochs=2),
    "forward-that-writes": Cell(Keeps, others=lambda folder: ([], [Copies()]), options={"limit_val_batches": 1}),
    "loaders-in-a-list": Cell(
        data=lambda: several(lambda a, b: [a, b]), stages=("fit", "validate", "test", "predict", "fit")
    ),
    "loaders-in-a-dict": Cell(data=lambda: several(lambda a, b: {"a": a, "b": b})),
    "loaders-at-once": Cell(
        Together,
        data=lambda: several(lambda a, b: CombinedLoader({"a": a, "b": b}, "max_size")),
        stages=("fit", "validate"),
    ),
    "loaders-in-turns-of-both": Cell(
        Together, data=lambda: several(lambda a, b: CombinedLoader({"a": a, "b": b}, "max_size_cycle"))
    ),
    "no-validation-batches": Cell(explains=False, options={"limit_val_batches": 0}),
    "one-validation-batch": Cell(options={"limit_val_batches": 1}),
    "fast-dev-run": Cell(options={"fast_dev_run": 2, "val_check_interval": None}),
    "noisy-data": Cell(data=lambda: [DataLoader(Noisy(seed=seed), batch_size=4, shuffle=seed == 0) for seed in (0, 1)]),
    "worker": Cell(data=partial(working, False), epochs=2),
    "persistent-workers": Cell(data=partial(working, True), epochs=2, stages=("fit", "validate", "fit")),
    "persistent-worker-of-training": Cell(data=partial(working, True, both=False), epochs=2),
    "checkpoint-and-early-stopping": Cell(others=choosing, epochs=3, options={"enable_checkpointing": True}),
    "average-first": Cell(epochs=2, others=partial(averaging, True), options={"enable_checkpointing": True}),
    "average-last": Cell(epochs=2, others=partial(averaging, False), options={"enable_checkpointing": True}),
    "exponential-average-first": Cell(
        epochs=2, others=partial(averaging, True, ema=True), options={"enable_checkpointing": True}
    ),
    "exponential-average-last": Cell(
        epochs=2, others=partial(averaging, False, ema=True), options={"enable_checkpointing": True}
    ),
    "stochastic-average-first": Cell(
        Stepped, others=lambda folder: ([StochasticWeightAveraging(0.05, 1)], []), epochs=3
    ),
    "stochastic-average-last": Cell(
        Stepped, others=lambda folder: ([], [StochasticWeightAveraging(0.05, 1)]), epochs=3
    ),
    "tensorboard": Cell(stages=("fit", "validate", "test", "predict"), options={"logger": True}),
    "inference-mode-off": Cell(stages=("validate", "predict"), options={"inference_mode": False}),
    "anomalies-detected": Cell(options={"detect_anomaly": True}),
}


@pytest.mark.parametrize(("cell", "name"), crossed(CELLS))
def test_training_is_bit_identical_with_and_without_the_monitor(purity, cell, name):
    purity.check(CELLS[cell], name)


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_two_runs_without_a_monitor_are_the_same(purity, cell):
    purity.prove(CELLS[cell])


OPTIONS = ({"every_n_validations": 2}, {"precision": "model"}, {"max_seconds": 1e-9}, {"save_jsonl": True})


@pytest.mark.parametrize(("options", "name"), crossed(OPTIONS))
def test_training_is_bit_identical_whatever_the_monitors_options(purity, options, name):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is spent")
        purity.check(CELLS["hooks-parametrizations-in-half-precision"], name, **options)


@everyone
def test_several_monitors_are_as_pure_as_one(purity, name):
    cell = CELLS["hooks-parametrizations-tied-weights"]
    monitors = [watched(name, tag=each, probes=probes) for each, probes in (("a", 2), ("b", [5]))]
    shown, _ = cell.run(monitors, purity.folder())
    assert_same(purity.plain(cell), shown)
    assert all(monitor.found for monitor in monitors)


@everyone
def test_the_weights_that_are_averaged_are_averaged_in_either_order(purity, name):
    """The bits are those of a run without it in both; between the two there is no difference either."""
    first, last = (purity.check(CELLS[f"exponential-average-{order}"], name)[1] for order in ("first", "last"))
    assert_same(first["state"], last["state"])
    assert_same(first["checkpoints"], last["checkpoints"])


def test_the_cells_do_what_they_are_named_after(purity):
    shown = {
        cell: purity.plain(CELLS[cell])
        for cell in ("plateau", "checkpoint-and-early-stopping", "average-first", "persistent-workers")
    }
    rates = {
        each["state"]["schedulers"][0]["_last_lr"][0]
        for each in shown["plateau"]["seen"]
        if each["state"]["schedulers"]
    }
    assert len(rates) > 1
    assert shown["checkpoint-and-early-stopping"]["best"] != [""]
    assert len(shown["average-first"]["checkpoints"]) == 3
    assert shown["average-first"]["checkpoints"]["last.ckpt"]["state_dict"].keys() >= {"head.weight"}
    epochs = [batch[0] for batch in shown["persistent-workers"]["batches"] if len(batch) == 2]
    assert epochs == [*range(6)] * 4  # none was cut short
    noise = [batch[1][1]["noise"] for batch in shown["persistent-workers"]["batches"] if len(batch) == 2]
    assert not torch.equal(noise[0], noise[6])


@everyone
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_the_learning_rate_that_is_found_is_the_same(purity, name):
    def found(callbacks):
        from lightning.pytorch import Trainer

        torch.manual_seed(0)
        module = Toy()
        module.lr = 0.01
        module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=module.lr)
        trainer = Trainer(
            accelerator="cpu",
            callbacks=callbacks,
            logger=False,
            max_epochs=1,
            enable_progress_bar=False,
            default_root_dir=purity.folder(),
            enable_checkpointing=False,
            val_check_interval=2,
        )
        rates = Tuner(trainer).lr_find(module, *loaders(), num_training=8, early_stop_threshold=None)
        trainer.fit(module, *loaders())
        return rates.results, module.lr, state_of(module)

    assert_same(found([]), found([watched(name)]))


# Resuming


def resume(purity, cell, callbacks, ckpt_path=None):
    folder = purity.folder()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shown, _ = cell.run(callbacks, folder, ckpt_path)
    own = [str(each.message) for each in said if "callback" in str(each.message) or "Monitor" in str(each.message)]
    return shown, folder, own


@pytest.mark.parametrize(("amid", "name"), crossed(["after-an-epoch", "amid-an-epoch"]))
def test_a_checkpoint_written_with_the_monitor_resumes_without_it_and_the_reverse(purity, amid, name):
    amid = amid == "amid-an-epoch"
    every = {"every_n_train_steps": 1} if amid else {"every_n_epochs": 1, "save_on_train_epoch_end": True}
    options = {"enable_checkpointing": True, "accumulate_grad_batches": 2}

    def keeping(folder):
        return [], [ModelCheckpoint(folder, filename="at-{step}", save_top_k=-1, **every)]

    first, second = (Cell(others=keeping, epochs=epochs, options=options) for epochs in (1, 2))
    runs = [resume(purity, first, callbacks) for callbacks in ([], [watched(name)])]
    assert_same(runs[0][0], runs[1][0])  # the checkpoints too, but for what one that is in STATEFUL keeps
    paths = sorted(runs[0][0]["checkpoints"])
    assert len(paths) == (3 if amid else 1)
    ends = []
    for _, folder, _ in runs:
        for callbacks in ([], [watched(name)]):
            shown, _, said = resume(purity, second, callbacks, folder / paths[0])
            expected = ("no logger", "shows the scalars")
            dropped = ("callbacks used to create the checkpoint",) if name in STATEFUL and not callbacks else ()
            assert not [message for message in said if not any(each in message for each in (*expected, *dropped))]
            ends.append(shown)
    for end in ends[1:]:
        assert_same(ends[0], end)
    assert ends[0]["seen"][-1]["at"][0] == 6  # steps in all
