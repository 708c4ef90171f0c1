"""TrustMonitor: how far each of several methods can be trusted, at every validation, and which one is recommended."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import LightningModule, Trainer
from torchmetrics import Metric

from lightning_interpret.callbacks import output as written
from lightning_interpret.callbacks.monitor import Monitor
from lightning_interpret.callbacks.probes import Probes
from lightning_interpret.callbacks.references import References
from lightning_interpret.data.random_states import random_states_kept
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.methods import Method
from lightning_interpret.names import check_positive
from lightning_interpret.records.trust import Drill, TrustRow
from lightning_interpret.tasks import Regression, Task
from lightning_interpret.trainer._compat import copy_of
from lightning_interpret.trainer.context import mute
from lightning_interpret.trainer.transfer import to_module
from lightning_interpret.trust.cue import find_cue, reads_tokens
from lightning_interpret.trust.drill import ShortcutDrill, run_drill
from lightning_interpret.trust.figures import RANDOM, Probed
from lightning_interpret.trust.measure import measure
from lightning_interpret.trust.setting import (
    DEFAULT,
    Setting,
    measured_in,
    measured_said,
    named_methods,
    settings_said,
)
from lightning_interpret.trust.table import table

_HALF = (torch.float16, torch.bfloat16)


class TrustMonitor(Monitor):
    """Put several methods on the same validation examples, log one table of them, and recommend one.

    Every method explains the same targets; each is measured by its attribution error, by what the prediction loses
    where tokens are erased in its order, by what it says of random weights, by how it agrees with the others and, where
    the batch has a ``rationale``, with people, and by its seconds: beside orders drawn at random. The record, one a
    validation, is logged under ``interpret/<name>/probe_0`` as a picture, a Markdown text and an Interpret summary; it
    says by which rules the recommendation is made, or that none can be.

    A probe with several targets (labels, entities, tokens that are written) counts once, by their mean. What erasing
    costs is probability: of the class; of a label that holds, its sigmoid; of an entity, of all its tags; of an answer,
    of its start times that of its end; of a token that is written, after the same text before it, tokens being erased
    that it is read from. Of all that is written together (``which="predicted sequence"``) it is log probability, and of
    a number by how much it changes, tokens going by the size of their scores. The record's notes say so.

    Scalars, under ``interpret/<name>/``, over all probes of all processes, where known: ``<method>/<figure>`` and
    ``random_order/<figure>``, the figures being ``relative_error``, ``comprehensiveness``, ``sufficiency``,
    ``log_odds``, ``leave_one_out``, ``randomisation``, ``max_sensitivity``, ``token_f1``, ``iou_f1``, ``auprc``,
    ``gini``, ``seconds`` and ``passes`` (of the model, for one probe); ``<method>/gain``, over a random order;
    ``agreement``, the mean of Kendall's τ over pairs of methods; ``seconds`` of it all and ``failures``. Why a figure
    is missing stands in the record.

    A drill is asked for by ``drill``. It trains a copy of the module, on the first process and at the first validation
    of a fit, on training rows in some of which a cue is planted, and asks each method for it: ``<method>/cue_first``
    and ``<method>/cue_found`` (precision at 1 and at k, beside ``random_order/...``), ``drill/accuracy`` and
    ``drill/accuracy_cue`` are logged once. The copy holds the weights twice and its AdamW twice more, and ``steps``
    batches forward and backward take as long as they would in training; ``max_seconds`` bounds it too, by itself.

    What a joint method costs in accuracy is not measured here: see :class:`PlainTwin`.

    Args:
        methods: Names of methods, or methods with options; by default five that differ in kind.
        which: What the task explains, such as ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``: what is attributed.
        baseline: What stands where a token is erased, for every method the same; by default the task's.
        share: Share of the tokens that is taken as a method's rationale beside people's, whole percent.
        top: How many of the largest tokens of two methods are compared.
        orders: Random orders that the control is a mean of.
        randomised: Whether each method is asked of random weights too, which costs as much again.
        sensitivity: How often each method is asked of inputs that hardly differ, for its max-sensitivity; 0 for never.
        references: How many training examples, spread evenly by their index, a baseline drawn from data has. They are
            read once, and only if there is such a baseline; a task that has ``references`` keeps them. Runs without
            training data take those they evaluate.
        tolerance: Relative attribution error up to which a method adds up.
        drill: Whether to run a shortcut drill, or how.
        seed: Seed of the random orders, of the random weights and of that noise.
        name: Part of every tag; by default ``trust``.
        task: How module and batch are read; by default the module's own or one inferred from its model.
        tokenizer: The tokenizer (an object, a name or a directory) for a task that is inferred.
        probes: How many examples of the first validation data set, spread evenly, or their indices. Of fewer than five
            (where five methods are asked, seven) no order can be told from a random one.
        every_n_validations: Validation runs from one comparison to the next.
        max_seconds: Seconds a validation run may spend here; what is left out is said once. ``None`` for no bound.
        precision: ``"32"`` to explain in single precision, ``"model"`` in the trainer's own.
        on_error: ``"warn"`` to count and go on, ``"raise"`` to stop the run. A method that fails is no error of either.
        save_jsonl: Whether to append the records to ``interpret/<name>.jsonl`` in the log directory, or a path.

    Raises:
        ValueError: If a name does not exist, or an option is out of its range; before training starts, if there is a
            drill and the task has no class of a text with token ids, or no such output.

    Example::

        trainer = Trainer(callbacks=[TrustMonitor(["integrated_gradients", "occlusion", "gradient"], probes=16)])
    """

    def __init__(
        self,
        methods: list[str | Method] | None = None,
        *,
        which: str = "predicted",
        output: Literal["logit", "log_prob", "prob", "margin"] = "logit",
        baseline: str | Baseline = "default",
        share: int = 20,
        top: int = 5,
        orders: int = 5,
        randomised: bool = True,
        sensitivity: int = 0,
        references: int = 32,
        tolerance: float = 0.05,
        drill: bool | ShortcutDrill = False,
        seed: int = 0,
        name: str | None = None,
        task: Task | None = None,
        tokenizer: Any = None,
        probes: int | list[int] = 12,
        every_n_validations: int = 1,
        max_seconds: float | None = 60.0,
        precision: Literal["32", "model"] = "32",
        on_error: Literal["warn", "raise"] = "warn",
        save_jsonl: bool | str = False,
    ) -> None:
        super().__init__(
            name=name,
            task=task,
            tokenizer=tokenizer,
            probes=probes,
            every_n_validations=every_n_validations,
            max_seconds=max_seconds,
            precision=precision,
            on_error=on_error,
            save_jsonl=save_jsonl,
        )
        self.methods = named_methods(DEFAULT if methods is None else methods)
        self.setting = Setting(
            which,
            output,
            baseline,
            share=share,
            top=top,
            orders=orders,
            randomised=randomised,
            sensitivity=sensitivity,
            seed=seed,
        )
        check_positive(tolerance=tolerance)
        self.tolerance = tolerance
        baselines = [*(each.baseline_used for each in self.methods.values()), Baseline.ensure(baseline)]
        self.references = References(baselines, references, self._say)
        self.drill = ShortcutDrill(seed=seed) if drill is True else drill or None
        self._drilled: Drill | None = None
        self._drill_failed: str | None = None
        self._fresh = False  # whether the drill was run in this validation
        self._found: dict[str, float] = {}
        self._erased_by: str | None = None
        self._measured: tuple[str, ...] = ()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work; forget the drill of another entry point."""
        super().setup(trainer, pl_module, stage)
        self._drilled, self._drill_failed, self._fresh = None, None, False
        self.references.forget()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse training data that no references can be read from, before the first step."""
        self.references.check(trainer, self._prepare(trainer, pl_module))

    def check(self, module: LightningModule, task: Task) -> None:
        """Raise for a class, an output or a baseline that does not exist, and for a cue that cannot be planted."""
        if self.setting.output != "logit" and isinstance(task, Regression):
            raise ValueError(
                f"`output={self.setting.output!r}`: TrustMonitor compares methods on a number of {type(task).__name__}"
                ", which is no class: use `output='logit'`."
            )
        erased_by = Baseline.ensure(self.setting.baseline)
        unread = erased_by.drawn and self.references.wanted(task)
        task.check(module, self.setting.which, None if unread else erased_by)
        if self.drill is not None:
            reads_tokens(task)
            if self.drill.cue is not None:
                find_cue(self.drill.cue, [], reads_tokens(task))

    def explain(self, module: LightningModule, batch: Any, task: Task) -> list[Any]:
        """Return what each example of a batch says of each method."""
        task = self.references.given_to(task, module, self.precision)
        found = measure(module, batch, task, self.methods, self.setting)
        for name, why in {name: why for each in found for name, why in each.failed.items()}.items():
            self._say(f"{name} fails on this model ({why}); the others are compared.", once=name, rank_zero=False)
        return found

    def metrics(self) -> dict[str, Metric]:
        """Return none: what there is to log is known when all processes are heard."""
        return {}

    def update(self, metrics: dict[str, Metric], probe: int, row: Any, *others: Any) -> None:
        """Leave a probe's figures to the table of all of them."""

    def _explain_all(
        self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes, current: Any, begin: float
    ) -> int:
        self._erased_by = task.baseline_for(Baseline.ensure(self.setting.baseline)).name
        self._measured = measured_said(measured_in(task, self.setting.which))
        failures = super()._explain_all(trainer, module, task, probes, current, begin)
        in_fit = str(getattr(trainer.state.fn, "value", trainer.state.fn)) == "fit"
        self._fresh = in_fit and self.drill is not None and self._drilled is None and self._drill_failed is None
        if self._fresh and trainer.is_global_zero:
            try:
                self._drilled = self._run_drill(trainer, module, task, probes)
            except Exception as error:
                if self.on_error == "raise":
                    raise
                self._drill_failed = f"{type(error).__name__}: {error}"
                self._say(f"the drill could not be run ({self._drill_failed}); training goes on.")
        return failures

    def _run_drill(self, trainer: Trainer, module: LightningModule, task: Task, probes: Probes) -> Drill:
        """Teach a copy of the module a cue; the module, its gradients and all random states stay as they are."""
        assert self.drill is not None
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        kept = random_states_kept(), torch.random.fork_rng(devices)
        with kept[0], kept[1], torch.inference_mode(False), torch.enable_grad():
            training = Probes(trainer.train_dataloader, self.drill.rows)
            if not (training.indexed and probes.indexed):
                raise ValueError("`drill` reads training and validation rows by index, and the data set has none")
            copied = copy_of(module)
            if self.precision == "32" and any(weight.dtype in _HALF for weight in copied.parameters()):
                copied.float()  # whose small steps would else be rounded away
            copied.trainer = trainer
            mute(copied)

            def parts(rows: Probes) -> list[Any]:
                every = torch.arange(len(rows.indices)).split(self.drill.batch_size)  # type: ignore[union-attr]
                read = (rows.batch(some.tolist(), None, task) for some in every)
                return [to_module(each, trainer, module, precision=self.precision, moved=False) for each in read]

            return run_drill(
                copied,
                self.references.given_to(task, module, self.precision),
                parts(training),
                parts(probes.spread(self.drill.test_rows)),
                self.methods,
                self.drill,
                output=self.setting.output,
                max_seconds=self.max_seconds,
            )

    def _gathered(self, trainer: Trainer) -> written.Rows:
        """Return the one record of all processes' probes, after adding it to the metrics; collective."""
        found: Any = written.gathered(self._rows, trainer.world_size)
        first = written.from_all((self._drilled, self._drill_failed, self._fresh), trainer.world_size)[0]
        self._drilled, self._drill_failed, fresh = first
        probed: list[Probed] = [each for _, each in found]
        if not probed:
            return []
        notes = settings_said(self.methods) + self._measured
        notes += () if self._drill_failed is None else (f"the drill failed: {self._drill_failed}",)
        if callable(getattr(trainer.lightning_module, "become_plain", None)):
            notes += ("what the module's joint method costs in accuracy is measured by PlainTwin, a second training",)
        row = table(
            probed,
            self.methods,
            self.setting,
            baseline=self._erased_by,
            tolerance=self.tolerance,
            drill=self._drilled,
            notes=notes,
        )
        self._found = _scalars(row) | (_of_drill(self._drilled) if fresh else {})
        return [(0, row)]

    def _computed(self, module: LightningModule) -> dict[str, torch.Tensor]:
        """Return the metrics with the table's figures, which every process has from the same probes."""
        found, self._found = self._found, {}
        return super()._computed(module) | {
            name: torch.tensor(value, device=module.device) for name, value in found.items()
        }


def _scalars(row: TrustRow) -> dict[str, float]:
    every = [*row.methods, *([row.control] if row.control else ())]
    found = {f"{_tag(each.name)}/{figure}": value for each in every for figure, value in each.figures.items()}
    found |= {f"{_tag(each.name)}/gain": each.gain for each in row.methods if each.gain is not None}
    taus = [each.kendall for each in row.agreement if each.kendall is not None]
    return found | ({"agreement": sum(taus) / len(taus)} if taus else {})


def _of_drill(drill: Drill | None) -> dict[str, float]:
    if drill is None:
        return {}
    known = {"accuracy": drill.accuracy, "accuracy_cue": drill.accuracy_cue, "flipped": float(drill.flipped)}
    found = {f"drill/{name}": value for name, value in known.items() if value is not None}
    shown = [(name, first, drill.found[name]) for name, first in drill.first.items()]
    shown += [] if drill.chance is None else [(RANDOM, *drill.chance)]
    for name, first, among in shown:
        found |= {f"{_tag(name)}/cue_first": first, f"{_tag(name)}/cue_found": among}
    return found


def _tag(name: str) -> str:
    return name.replace(" ", "_")
