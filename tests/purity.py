"""The purity harness: a run with a Monitor and a run without it, and everything that training could show of it.

A Monitor goes through all of it once it stands in :data:`MONITORS`.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from tiny import wordpiece
from torch import nn
from torch.utils.data import DataLoader, Dataset

from lightning_interpret import (
    AttentionMonitor,
    BadCaseMonitor,
    ConceptActivationVectors,
    ConceptMonitor,
    HierarchyMonitor,
    InfluenceMonitor,
    IntegratedGradients,
    LandmarkMonitor,
    LandmarkRelevance,
    NeighborMonitor,
    Rationale,
    RationaleMonitor,
    RationaleRow,
    SaliencyMonitor,
    SequenceClassification,
    TrustMonitor,
)
from lightning_interpret.causes import Setting
from lightning_interpret.layers import Landmark, NystroemLayer
from lightning_interpret.tasks import find_task

# What is watched: a small model, and batches of texts


class Texts(Dataset):
    """Token ids of unequal lengths with labels: dicts, so that the default task reads them."""

    def __init__(self, size=24, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.ids = torch.randint(5, 20, (size, 9), generator=generator)
        self.ids[:, 0], self.ids[:, -1] = 2, 3
        self.labels = (self.ids == 7).any(dim=1).long()

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        ids = self.ids[i]
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": self.labels[i], "example_id": i}


class Attends(nn.Module):
    """Self-attention of two heads without weights of its own."""

    def forward(self, hidden):
        heads = hidden.unflatten(-1, (2, -1)).transpose(1, 2)
        return hidden + nn.functional.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)


class Toy(LightningModule):
    """Embedding, dropout, batch normalisation (one frozen on purpose), a GRU, attention, a kernel layer and a head.

    The kernel is linear, so that every method has a rule for it.
    """

    def __init__(self, manual=False):
        super().__init__()
        self.embedding = nn.Embedding(24, 12)
        self.rnn, self.attention = nn.GRU(12, 12, batch_first=True), Attends()
        self.norm, self.frozen, self.dropout = nn.BatchNorm1d(12), nn.BatchNorm1d(12), nn.Dropout(0.3)
        self.kernel = NystroemLayer(12, 12, "linear")
        landmarks = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
        self.kernel.set_landmarks(landmarks, [Landmark(i, f"text {i}", str(i % 2)) for i in range(12)])
        self.head = nn.Linear(12, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.automatic_optimization = not manual

    def forward(self, ids):
        self.calls += 1  # a buffer that a forward changes in place
        hidden = self.mixed(self.dropout(self.embedding(ids)))
        return self.scores(self.attention(hidden))

    def mixed(self, hidden):
        return self.rnn(hidden)[0]

    def scores(self, hidden):
        return self.head(self.kernel(self.frozen(self.norm(hidden.mean(dim=1)))))

    def explain_rationale(self, batch, which="predicted"):
        """Return as the rationale of each text the words at which the gradient is large."""
        task, embedded = find_task(self), []

        def scores(kept):
            hook = self.embedding.register_forward_hook(
                lambda *call: embedded.append((call[-1] * kept.unsqueeze(-1)).requires_grad_()) or embedded[-1]
            )
            try:
                return task.logits(self, batch)
            finally:
                hook.remove()

        best, which = scores(torch.ones_like(batch["input_ids"])).max(dim=1)
        sizes = torch.autograd.grad(best.sum(), embedded)[0].float().norm(dim=2)
        selected = sizes > sizes.mean(dim=1, keepdim=True)
        parts = [torch.ones_like(selected), selected, ~selected]
        chances = [scores(kept).float().softmax(dim=1).gather(1, which[:, None])[:, 0].tolist() for kept in parts]
        rows = zip(batch["input_ids"].tolist(), selected.tolist(), *chances, strict=True)
        names = ("full", "probability", "complement")
        return Rationale(
            tuple(
                RationaleRow(
                    tokens=tuple(map(str, ids)),
                    selected=tuple(kept),
                    rate=sum(kept) / len(ids),
                    **dict(zip(names, of_each, strict=True)),
                )
                for ids, kept, *of_each in rows
            )
        )

    def on_fit_start(self):
        self.frozen.eval()
        self.frozen.weight.requires_grad_(False)

    def loss(self, batch):
        return nn.functional.cross_entropy(self(batch["input_ids"]), batch["labels"])

    def training_step(self, batch, batch_idx):
        self.frozen.eval()
        loss = self.loss(batch)
        if not self.automatic_optimization:
            self.step_by_hand(loss)
        return loss

    # Lightning's own bookkeeping is not what is compiled here: seconds of work a fit
    log = torch.compiler.disable(LightningModule.log)

    @torch.compiler.disable
    def step_by_hand(self, loss):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        return self(batch["input_ids"])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


class Dense(Toy):
    """A Toy without the GRU, which Dynamo does not trace: its forward is compiled as a whole."""

    def __init__(self, manual=False):
        super().__init__(manual)
        self.rnn = nn.Linear(12, 12)

    def mixed(self, hidden):
        return torch.tanh(self.rnn(hidden))


class ToyTask(SequenceClassification):
    """Reads a :class:`Toy`."""

    def logits(self, module, batch):
        return module(batch["input_ids"])

    def layer(self, module):
        return "embedding"


def loaders(workers=0, batch_size=4):
    return [
        DataLoader(Texts(seed=seed), batch_size=batch_size, shuffle=seed == 0, num_workers=workers, drop_last=seed == 0)
        for seed in (0, 1)
    ]


# Who is watched


def saliency(method=None, **options):
    """By default its baseline is drawn from references, so that the training data are read too."""
    method = method or IntegratedGradients(steps=4, baseline="training_mean")
    drawn = method.baseline_used is not None and method.baseline_used.drawn
    return SaliencyMonitor(method, **({"references": 5} if drawn else {}), **options)


def influence(**options):
    """Given its training data, as not every entry point has a loader of them."""
    return InfluenceMonitor(**{"train_data": Texts(), "queries": "fixed", "track": 2, "suspects": 3} | options)


def landmarks(**options):
    """With a way down to the tokens, by a rule that a GRU has, too."""
    return LandmarkMonitor(LandmarkRelevance(tokens=True), **options)


def neighbors(**options):
    """Given its training data, as not every entry point has a loader of them."""
    return NeighborMonitor(**{"train_data": Texts(), "queries": "fixed"} | options)


def concepts(**options):
    """Of words, and of a column; in a run without training they are of the data that it evaluates."""
    method = ConceptActivationVectors(least=6, examples=6, vectors=2, random_concepts=4)
    told = {"was": {"words": ["was"]}, "label": {"column": "labels", "value": 0}}
    return ConceptMonitor(told, method, **({"class_examples": 8} | options))


def rationale(**options):
    """Of what a Toy says of itself, by a forward and a backward pass."""
    return RationaleMonitor("rationale", **options)


def bad_cases(**options):
    """Given its training data; every case is asked about by gradients, by influence and without words."""
    setting = Setting(unsure_below=1.0, words=2)
    return BadCaseMonitor(setting, **{"train_data": Texts(), "method": "gradient_times_input"} | options)


def trust(**options):
    """Of two methods that are cheap, also of random weights."""
    return TrustMonitor(["gradient_times_input", "gradient"], orders=1, **options)


MONITORS: dict[str, Callable[..., Any]] = {
    "AttentionMonitor": AttentionMonitor,
    "BadCaseMonitor": bad_cases,
    "HierarchyMonitor": HierarchyMonitor,
    "ConceptMonitor": concepts,
    "InfluenceMonitor": influence,
    "LandmarkMonitor": landmarks,
    "NeighborMonitor": neighbors,
    "RationaleMonitor": rationale,
    "SaliencyMonitor": saliency,
    "TrustMonitor": trust,
}
"""Every Monitor of the package by class name: a function that makes one of the options that all Monitors have."""

SHARE = 5
"""One Monitor in so many meets a way to train in the default tests; the next way, the next one. All: ``-m slow``."""


def crossed(ways, slow=()):
    """Return every way with every Monitor, for ``parametrize``; those that are not in the share, or ``slow``, marked.

    Each way is met by two Monitors of ten, each Monitor by every fifth way.
    """
    return [
        pytest.param(
            way,
            name,
            marks=[pytest.mark.slow] * (way in slow or (i + j) % SHARE != 0),
            id=f"{getattr(way, '__name__', way)}-{name}",
        )
        for i, way in enumerate(ways)
        for j, name in enumerate(MONITORS)
    ]


FIRST_ALONE = ("BadCaseMonitor",)
"""Monitors that explain all examples at once, on the first process alone, for which the others wait."""

STATEFUL = ("BadCaseMonitor",)
"""Monitors that keep something in checkpoints: what they follow over training goes on after a resume."""

WITHOUT_GRADIENTS = ("HierarchyMonitor", "NeighborMonitor", "TrustMonitor")
"""Monitors that make no backward pass, in which nothing can fail, or to which a method that fails is a finding."""


def watched(name, *, tag=None, **options):
    """Return a Monitor of the registry that keeps its records, each of its hooks checked by itself."""
    defaults = {"name": tag, "task": ToyTask(wordpiece()), "probes": 3, "max_seconds": None, "on_error": "raise"}
    monitor = MONITORS[name](**defaults | options)
    monitor.found, update = [], monitor.update

    def keeps(metrics, probe, *rows):
        monitor.found += [(probe, row) for row in rows]
        update(metrics, probe, *rows)

    monitor.update = keeps
    return bracketed(monitor)


def told(row):
    """Return what a Monitor keeps of a probe as plain values, without the time that it took."""
    if hasattr(row, "to_dict"):
        return row.to_dict()
    return {name: {k: v for k, v in of.items() if k != "seconds"} for name, of in row.figures.items()}


def bracketed(callback):
    """Let each hook of a callback raise unless the state after it, also after an error, is the state before it."""
    for name in dir(Callback):
        own = getattr(type(callback), name) is not getattr(Callback, name)
        if own and (name.startswith("on_") or name in ("setup", "teardown")):
            setattr(callback, name, _bracket(name, getattr(callback, name)))
    return callback


def _bracket(name, hook):
    @wraps(hook)
    def checked(trainer, pl_module, *args, **kwargs):
        before = state_of(pl_module, trainer)
        try:
            return hook(trainer, pl_module, *args, **kwargs)
        finally:
            assert_same(before, state_of(pl_module, trainer), name, objects=True)

    return checked


# What is compared


def state_of(module, trainer=None):
    """Return a copy of everything that an explanation must leave as it is."""
    parts = dict(module.named_modules())
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {
        "tensors": copied(tensors),
        "grads": {name: copied(tensor.grad) for name, tensor in tensors.items() if tensor.is_leaf},
        "requires_grad": {name: tensor.requires_grad for name, tensor in tensors.items()},
        "flags": {name: part.training for name, part in parts.items()},
        "hooks": {
            name: {kind: len(hooks) for kind, hooks in vars(part).items() if kind.endswith("_hooks")}
            for name, part in [*parts.items(), ("every module", torch.nn.modules.module)]
        },
        "tensor hooks": {name: len(tensor._backward_hooks or ()) for name, tensor in tensors.items()},
        "attributes": {name: _attributes(part) for name, part in parts.items()},
        "random": (torch.get_rng_state(), random.getstate(), numpy.random.get_state()),
        "modes": (
            torch.is_grad_enabled(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cudnn.enabled,
            torch.get_default_dtype(),
            torch._dynamo.eval_frame._stance.stance,
        ),
        "optimizers": copied([each.state_dict() for each in trainer.optimizers]) if trainer else [],
        "schedulers": copied([each.scheduler.state_dict() for each in trainer.lr_scheduler_configs]) if trainer else [],
        "objects": {name: (id(tensor), id(tensor.grad) if tensor.is_leaf else 0) for name, tensor in tensors.items()},
    }


def _attributes(part):
    return {
        name: _attribute(value)
        for name, value in vars(part).items()
        if not name.startswith("_torchdynamo")  # an address
    }


def _attribute(value):
    if isinstance(value, torch.Generator | numpy.random.RandomState):
        return value.get_state()
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, numpy.random.Generator):
        return value.bit_generator.state
    return copied(value) if isinstance(value, int | float | str | torch.Tensor) else type(value).__name__


def copied(nest):
    """Return a nest with its tensors detached and copied."""
    if isinstance(nest, torch.Tensor):
        return nest.detach().clone()
    if isinstance(nest, dict):
        return {key: copied(value) for key, value in nest.items()}
    return type(nest)(map(copied, nest)) if type(nest) in (list, tuple) else nest


def assert_same(a, b, where="", *, objects=False):
    """Assert that two nests are equal, tensors to the bit; identities of objects are compared within one run only."""
    if isinstance(a, torch.Tensor):
        assert isinstance(b, torch.Tensor), where
        assert (a.dtype, a.shape) == (b.dtype, b.shape), where
        assert torch.equal(a.isnan(), b.isnan()), where
        assert torch.equal(a.nan_to_num(), b.nan_to_num()), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            if objects or key != "objects":
                assert_same(a[key], b[key], f"{where}.{key}", objects=objects)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{i}]", objects=objects)
    elif isinstance(a, numpy.ndarray):
        assert numpy.array_equal(a, b), where
    else:
        assert a == b, where


def users_own(metrics):
    """Return the metrics that are not a Monitor's."""
    return copied({name: value for name, value in metrics.items() if not name.startswith("interpret/")})


class Witness(Callback):
    """Writes down, after all other callbacks, what a run shows: its batches, and the state after each of them."""

    def __init__(self):
        self.seen, self.batches = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append((batch_idx, copied((outputs, batch))))
        self._see("train", trainer, pl_module)

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.batches.append((batch_idx, dataloader_idx, copied((outputs, batch))))

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer, pl_module):
        self._see("validation", trainer, pl_module)

    def on_test_end(self, trainer, pl_module):
        self._see("test", trainer, pl_module)

    def on_predict_end(self, trainer, pl_module):
        self._see("predict", trainer, pl_module)

    def on_fit_end(self, trainer, pl_module):
        self._see("fit", trainer, pl_module)

    def on_exception(self, trainer, pl_module, exception):
        self._see(repr(exception), trainer, pl_module)

    def _see(self, when, trainer, module):
        self.seen.append(
            {
                "when": when,
                "at": (trainer.global_step, trainer.current_epoch, trainer.sanity_checking),
                "state": state_of(module, trainer),
                "metrics": users_own(trainer.callback_metrics),
            }
        )


# How it is run


class Remembers(Logger):
    """A logger that keeps what it is told."""

    name, version, experiment = "remembers", 0, object()

    def __init__(self):
        super().__init__()
        self.metrics = []

    def log_metrics(self, metrics, step=None):
        self.metrics.append((step, metrics))

    def log_hyperparams(self, *args, **kwargs):
        pass


@dataclass(eq=False)
class Cell:
    """One way to train.

    Args:
        module: Makes the module.
        precision: The trainer's.
        compiled: Backend that the whole module is compiled with, or None.
        stages: The entry points, one after the other, of one trainer.
        data: Makes the training loader, and the loaders of all other entry points.
        others: Makes, for a folder, the callbacks before the Monitor and those after it.
        epochs: Of each ``fit``.
        explains: Whether there is anything for a Monitor to explain.
        raises: What may end the run before its time.
        options: Options of the trainer.
    """

    module: Callable[[], LightningModule] = Toy
    precision: str = "32-true"
    compiled: str | None = None
    stages: tuple[str, ...] = ("fit",)
    data: Callable[[], Any] = loaders
    others: Callable[[Path], tuple[list[Callback], list[Callback]]] = lambda folder: ([], [])
    epochs: int = 1
    explains: bool = True
    raises: tuple[type[BaseException], ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def run(self, callbacks, folder, ckpt_path=None):
        """Run and return everything there is to compare, and the trainer."""
        torch._dynamo.reset()  # its caches are the process's: a run would else depend on the one before it
        torch._dynamo.utils.counters.clear()
        torch.manual_seed(0)
        random.seed(0)
        numpy.random.seed(0)
        module, witness, logger, (before, after) = self.module(), Witness(), Remembers(), self.others(folder)
        trainer = Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_epochs=self.epochs,
            precision=self.precision,
            callbacks=[*before, *callbacks, *after, witness],
            **{
                "accumulate_grad_batches": 3 if module.automatic_optimization else 1,
                "val_check_interval": 2,
                "log_every_n_steps": 1,
                "logger": logger,
                "enable_checkpointing": False,
                "enable_progress_bar": False,
                "enable_model_summary": False,
            }
            | self.options,
        )
        train, val = self.data()
        called = torch.compile(module, backend=self.compiled) if self.compiled else module
        outputs, error = [], None
        try:
            for i, stage in enumerate(self.stages):
                if stage == "fit":
                    trainer.fit_loop.max_epochs = self.epochs * (1 + self.stages[:i].count("fit"))
                    trainer.fit(called, train, val, ckpt_path=ckpt_path)
                else:
                    found = getattr(trainer, stage)(called, val, **({} if stage == "predict" else {"verbose": False}))
                    outputs.append(found if stage == "predict" else [users_own(each) for each in found])
        except self.raises as caught:
            error = repr(caught)
        return {
            "seen": witness.seen,
            "batches": witness.batches,
            "outputs": outputs,
            "error": (error, trainer.state.status),
            "logged": [(step, own) for step, metrics in logger.metrics if (own := users_own(metrics))],
            "state": state_of(module, trainer),
            "checkpoints": {str(path.relative_to(folder)): written(path) for path in sorted(folder.rglob("*.ckpt"))},
            "best": [Path(each.best_model_path).name for each in trainer.checkpoint_callbacks],
            "compiled": {what: dict(torch._dynamo.utils.counters[what]) for what in ("frames", "stats")},
        }, trainer


def written(path):
    """Return what a checkpoint holds, less the folder that it was written to."""
    found = torch.load(path, weights_only=False)
    found["callbacks"] = {key: of for key, of in found["callbacks"].items() if not key.startswith(STATEFUL)}
    for state in found["callbacks"].values():
        for key in ("dirpath", "best_model_path", "last_model_path", "kth_best_model_path", "best_k_models"):
            state.pop(key, None)
    return found


class Purity:
    """Compares runs with a Monitor and without it; what is run without it is run for all Monitors once."""

    def __init__(self, folders):
        self._folders, self._plain = folders, {}

    def folder(self):
        """Return an empty folder."""
        return self._folders.mktemp("run")

    def plain(self, cell):
        """Return what a run without a Monitor shows."""
        if cell not in self._plain:
            self._plain[cell], _ = cell.run([], self.folder())
        return self._plain[cell]

    def prove(self, cell):
        """Assert that two runs without a Monitor are the same: what differs by itself could not blame a Monitor."""
        assert_same(self.plain(cell), cell.run([], self.folder())[0], "two runs without a Monitor")

    def check(self, cell, name, **options):
        """Run a cell with a Monitor, assert that all is as without it, and return the Monitor and what was shown."""
        plain, monitor = self.plain(cell), watched(name, **options)
        shown, _ = cell.run([monitor], self.folder())
        assert_same(plain, shown)
        assert bool(monitor.found) == cell.explains
        return monitor, shown


def fit(callbacks, tmp_path, *, module=None, precision="32-true", manual=False, epochs=3, **options):
    """Fit once: what there is to compare, and the trainer."""
    options = {"logger": False} | options
    cell = Cell(module=module or partial(Toy, manual), precision=precision, epochs=epochs, options=options)
    return cell.run(callbacks, tmp_path)
