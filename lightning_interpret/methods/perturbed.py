"""A module at inputs with holes and noise: what the metrics of `metrics/` ask of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.features import JOINED, PIXELS, find_layer, first_tensor, with_first_tensor
from lightning_interpret.functional.scope import explaining, frozen_weights
from lightning_interpret.methods import Method, method_named
from lightning_interpret.methods.case import open_case
from lightning_interpret.names import choose
from lightning_interpret.tasks import OUTPUTS, Targets, Task, batches

#: How far a number moves from what it is at x, as a thing to be answered: the further, the less.
CHANGE = "change"


def settled(task: Task, targets: Targets) -> Task:
    """Return a task that explains these targets of a batch that is prepared, whatever the module predicts or writes."""
    found: Any = copy(task)
    found.resolve = lambda logits, batch, which: targets
    found.prepared = lambda module, batch: batch
    return found


class Perturbed:
    """A module at the examples of a batch, to be asked what it answers where some of their units are absent.

    Three lines of a ``validation_step`` log how faithful a method is, and how a random order would be::

        class Model(LightningModule):
            def __init__(self):
                super().__init__()
                ...
                self.comprehensiveness = Comprehensiveness(bins=BINS)

            def validation_step(self, batch, batch_idx):
                model = Perturbed(self, batch, task)
                self.comprehensiveness.update(model.scores("gradient_times_input"), model.counts, model.kept)
                self.log("comprehensiveness", self.comprehensiveness)
                self.log("comprehensiveness_random", self.comprehensiveness.control)

    The module is left as it was after each question. What is explained, mostly the class predicted, is read once and
    held fast. Questions and answers are on the CPU, as records are.

    There is a row a target, as many as the task explains: a class, each label or entity, an answer, each written token.
    What is answered, F, is the ``prob`` of that: of a class; of a label, its sigmoid; of an entity the product over its
    words of the probability of the tag; of an answer that of its start times that of its end; of a written token its
    probability after the text before it, of which ``counts`` says what can be absent: never what comes later. Of all
    that is written together (``which="predicted sequence"``) that is a product of many, and F better its logarithm,
    ``log_prob``: the sum of the tokens'. A number has no probability: of one F is ``change``.

    Args:
        module: The module; it may be in training mode, and in the middle of a run.
        batch: The batch, as the task reads it.
        task: How both are read.
        baseline: What stands where a unit is absent: a name, by default the task's (``pad`` of a text).
        which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
        output: What :meth:`kept` and :meth:`softly` return: ``prob`` for erasure, ``logit`` for :class:`Infidelity`, or
            ``log_prob`` or ``margin``; or ``change``, −|F − F(x)| of the logit F, so that what is lost is how far a
            number moves to either side: units are then ranked by the size of their scores.
        layer: Name of the layer at which units are replaced; by default the task's.
        internal_batch_size: Points in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Attributes:
        counts: Bool ``(N, T)``, the units that can be absent: neither special nor padding, and of what x' replaces; of
            pictures the locations, row after row.
        target: What the module answers with every unit present, ``(N,)``: of ``prob``, how sure it is.
        inputs: The layer's output at x, ``(N, *shape)``, on the module's device.
        targets: What is explained of each example.
        units: What scores of each example are for.
        batch: The batch as it is explained, with what the model writes where its own text is.

    Raises:
        ValueError: If the baseline is a distribution, or does not exist.
    """

    def __init__(
        self,
        module: nn.Module,
        batch: Any,
        task: Task,
        *,
        baseline: str | Baseline = "default",
        which: str = "predicted",
        output: str = "prob",
        layer: str | None = None,
        internal_batch_size: int | None = None,
    ) -> None:
        used = Baseline.ensure(baseline)
        if used.kind == "distribution":
            raise ValueError(f"`baseline={used.name!r}` is many: a unit that is absent is replaced by one thing.")
        self._module, self._task, self._which, self._layer = module, task, which, layer
        self._change = choose("output", output, (*OUTPUTS, CHANGE)) == CHANGE
        with explaining(module), torch.no_grad():
            self.batch = task.prepared(module, batches.clone(batch))
            with open_case(
                module,
                self.batch,
                task,
                layer=layer,
                which=which,
                output="logit" if self._change else output,
                baseline=used,
                chunk=internal_batch_size,
            ) as case:
                self._case = case
        self.targets, self.units, self.inputs = case.targets, case.units, case.inputs
        self.counts = ~(case.units.special | case.units.padding).flatten(1) & self._replaced()
        target = case.target.cpu().double()
        self._at_x, self.target = target, torch.zeros_like(target) if self._change else target

    def kept(self, masks: Tensor, rows: Tensor) -> Tensor:
        """Return what the module answers with only the units of ``masks`` present, bool ``(M, T)``: float64 ``(M,)``.

        Args:
            masks: Units that do not count (special tokens, padding) are present whatever it says.
            rows: Which example each is of, ``(M,)``.
        """
        absent = ~masks.cpu().bool() & self.counts[rows.cpu()]
        return self._asked(lambda part: self._case.to_features(absent[part].view(-1, *self._shape)), rows)

    def softly(self, shares: Tensor, rows: Tensor, seeds: Tensor) -> Tensor:
        """Return what it answers where each element of unit t is x with probability ``shares[m, t]``, else x'.

        Args:
            shares: ``(M, T)``; units that do not count are kept whole.
            rows: Which example each is of, ``(M,)``.
            seeds: Seeds of what is drawn, ``(M,)``: one number an element, below the share to be kept.
        """
        shares = shares.cpu().where(self.counts[rows.cpu()], 1.0)
        noise = {seed: self._noise(seed) for seed in seeds.unique().tolist()}

        def absent(part: Tensor) -> Tensor:
            drawn = torch.stack([noise[seed] for seed in seeds[part].tolist()])
            return drawn >= self._case.spread(shares[part].view(-1, *self._shape))

        return self._asked(absent, rows)

    def scores(
        self, method: str | Method, *, output: str = "logit", weights: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return a method's scores of these examples and targets, ``(N, T)``.

        Args:
            method: A method, or the name of one.
            output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
            weights: Other weights by name, such as those of step 0 for :class:`Randomisation`, which the module has
                meanwhile; the class explained is the one that it gives with its own.
        """
        with frozen_weights(self._module, values=weights) if weights else ExitStack():
            return self._explained(method_named(method), self.batch, self._case.targets, output)

    def explainer(self, method: str | Method, *, output: str = "logit") -> Callable[[Tensor, Tensor], Tensor]:
        """Return what explains points ``(M, *shape)`` in the place of ``inputs`` of rows ``(M,)``, as ``(M, T)``.

        For :class:`MaxSensitivity`. While a point is explained, the layer returns it where it would return x, to the
        method as well; baselines are as they are, but for pixels, where they are those of the point.
        """
        used = method_named(method)
        if JOINED in self._case.layer:
            raise ValueError(
                f"`layer={self._case.layer!r}`: noise is put at one layer, and the words of an encoder-decoder "
                "(Seq2SeqGeneration) are embedded by two. Leave the sensitivity out, or name the layer of one end."
            )

        def explain(points: Tensor, rows: Tensor) -> Tensor:
            rows = rows.to(self.inputs.device)
            some = self._task.take(self.batch, self._case.targets.example[rows])
            with explaining(self._module), self._at(some, points, rows) as (noisy, met):
                scores = self._explained(used, noisy, self._case.targets.at(rows), output)
            if not met:
                raise ValueError(
                    f"`layer={self._case.layer!r}` does not return x where the module runs on it: the model pads or "
                    "orders its input otherwise, so that noise cannot be put there."
                )
            return scores

        return explain

    @property
    def _shape(self) -> tuple[int, ...]:
        return tuple(self._case.units.special.shape[1:])

    def _asked(self, absent: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """Return the answers where features that are ``absent(part)`` of the rows are those of x'."""
        case, found = self._case, []
        assert case.baselines is not None
        rows = rows.to(case.inputs.device)
        with explaining(self._module), case.opened, torch.no_grad():
            for part in torch.arange(len(rows)).split(case.chunk):
                at = rows[part.to(rows.device)]
                points = torch.where(absent(part), case.baselines[at], case.inputs[at])
                answered = case.score(points, at).cpu().double()
                found.append(-(answered - self._at_x[at.cpu()]).abs() if self._change else answered)
        return torch.cat(found)

    def _replaced(self) -> Tensor:
        """Return what of a text x' replaces, bool ``(N, T)``; of what has no places, all of it."""
        found = self._task.content(self.batch, self.inputs).cpu()
        size = len(found), self.units.special.flatten(1).shape[1]
        everything = torch.ones(size, dtype=torch.bool)
        return (found if found.shape == size else everything)[self.targets.example.cpu()]

    def _noise(self, seed: int) -> Tensor:
        draw = torch.Generator().manual_seed(seed % 2**63)
        return torch.rand(self.inputs.shape[1:], generator=draw).to(self.inputs)

    def _explained(self, method: Method, batch: Any, targets: Targets, output: str) -> Tensor:
        task = settled(self._task, targets)
        record = method(self._module, batch, task, layer=self._layer, which=self._which, output=output)
        return record.scores.flatten(1).detach()

    @contextmanager
    def _at(self, batch: Any, points: Tensor, rows: Tensor) -> Iterator[tuple[Any, list[bool]]]:
        """Let the layer return points where it would return x; yield the batch, and what is filled when it has."""
        layer, x, met = find_layer(self._module, self._case.layer), self.inputs[rows], list[bool]()
        plain, had = layer.forward, "forward" in vars(layer)

        def at(found: Any) -> Any:
            if not isinstance(found, Tensor) or found.shape != x.shape:
                return found
            if not torch.allclose(found.to(x), x, rtol=1e-4, atol=1e-6):
                return found
            met.append(True)
            return points.to(found)

        if self._case.layer == PIXELS:  # what the module is given, and no layer of it returns
            yield batches.map_leaves(at, batch), met
            return

        def forward(*args: Any, **kwargs: Any) -> Any:
            output = plain(*args, **kwargs)
            return with_first_tensor(output, at(first_tensor(output, self._case.layer)))

        try:
            vars(layer)["forward"] = forward
            yield batch, met
        finally:
            if had:
                vars(layer)["forward"] = plain
            else:
                del vars(layer)["forward"]
