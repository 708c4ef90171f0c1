"""LIME and KernelSHAP: a linear surrogate of the model on texts with units absent. Captum runs the coalitions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.explanations import Attribution, Units
from lightning_interpret.functional import surrogate
from lightning_interpret.functional.baselines import Baseline
from lightning_interpret.functional.surrogate import Coalitions, Fit
from lightning_interpret.methods.base import Method
from lightning_interpret.methods.case import Case, open_case
from lightning_interpret.names import check_positive, check_whole, choose
from lightning_interpret.tasks import Task

#: Units of one row up to which a surrogate is fitted: its matrix has their number squared.
MOST_UNITS = 2048


@dataclass(frozen=True)
class _Surrogate(Method):
    """What both share: which units are absent, how many coalitions are read, and the record.

    A unit whose features are the same at x and at x' (a special token, by default) is in no coalition, and its score is
    exactly 0. Units that are absent together, a word's tokens or a square's locations, share their score evenly.
    """

    baseline: str | Baseline = "default"
    unit: Literal["token", "word"] = "token"
    squares: int = 8
    samples: int = 512
    seed: int = 0
    error_floor: float = 0.01
    internal_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("unit", self.unit, ("token", "word"))
        check_whole(squares=self.squares)
        check_whole(2, samples=self.samples)

    def check(self, module: nn.Module, task: Task, layers: Sequence[str], output: str) -> None:
        """Raise without Captum."""
        _captum(type(self).__name__)

    @abstractmethod
    def coalitions(self, units: int, generator: torch.Generator) -> Coalitions:
        """Return the coalitions of so many units that are read, and their weights."""

    @abstractmethod
    def solve(self, masks: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
        """Return the surrogate of values at coalitions."""

    def attribute(
        self, module: nn.Module, batch: Any, task: Task, layer: str | None, which: str, output: str
    ) -> Attribution:
        """Return the coefficients of one layer's surrogate."""
        captum, baseline, chunk = _captum(type(self).__name__), Baseline.ensure(self.baseline), self.internal_batch_size
        with (
            open_case(
                module, batch, task, layer=layer, which=which, output=output, baseline=baseline, chunk=chunk
            ) as case,
            torch.no_grad(),
        ):
            players, place = _players(case, self.unit, self.squares), _units_of_features(case)
            scores = torch.zeros(players.shape, dtype=torch.float64)
            sampling, forwards = torch.zeros(len(scores), dtype=torch.float64), case.forwards.clone()
            for row, player in enumerate(players):
                size = int(player.max()) + 1
                if size == 0:
                    continue
                drawn = self.coalitions(size, torch.Generator().manual_seed(self.seed))
                fit = self._fit(captum, case, row, F.pad(player, (0, 1), value=-1).to(place.device)[place], drawn)
                share = fit.coefficients / player[player >= 0].bincount(minlength=size)
                scores[row] = F.pad(share, (0, 1))[player]
                forwards[row] += len(drawn.masks)
                whole = fit.coefficients.abs().sum()
                sampling[row] = fit.standard_errors.sum() / whole.clamp(min=torch.finfo(whole.dtype).tiny)
            scores = scores.to(case.target.device)
            why = "a surrogate has no path: `sampling_error` says how far its scores may be off"
            return case.record(
                self,
                scores,
                forwards=forwards,
                sampling_error=sampling,
                reasons=dict.fromkeys(("steps", "partial_error", "converged"), why),
                **case.errors(scores, self.error_floor),
            )

    def _fit(self, captum: Any, case: Case, row: int, player: Tensor, drawn: Coalitions) -> Fit:
        """Return the surrogate of one row; ``player`` says of each feature whose it is, -1 for nobody's."""
        assert case.baselines is not None
        assert case.baseline_target is not None
        x, absent, reference = case.inputs[row], case.baselines[row], case.baseline_target[row]

        def score(masks: Tensor) -> Tensor:
            present = F.pad(masks.bool(), (0, 1), value=True)[:, player]
            rows = torch.full((len(masks),), row, device=x.device)
            return case.score(torch.where(present, x, absent), rows) - reference  # Captum keeps it in single precision

        def one_by_one(*_: Any, **__: Any) -> Any:
            yield from drawn.masks.long().to(x.device)[:, None]

        model = _Model(self, drawn.drawn)
        peer = captum.Lime(
            score, model, similarity_func=lambda *of, **_: drawn.weights[int(of[2].sum())], perturb_func=one_by_one
        )
        peer.attribute(
            x.new_ones(1, drawn.masks.shape[1]),
            n_samples=len(drawn.masks),
            perturbations_per_eval=case.chunk,
            return_input_shape=False,
        )
        return model.found


@dataclass(frozen=True)
class KernelShap(_Surrogate):
    """Shapley values of the units by weighted least squares over coalitions (Lundberg and Lee, 2017, theorem 2).

    The scores sum to F(x) − F(x'). Where a text has no more coalitions than ``samples``, all are read, and the scores
    are its Shapley values. Elsewhere pairs of coalitions are drawn by the Shapley kernel, and ``sampling_error`` is the
    sum of the scores' standard errors (over what was drawn) as a share of Σ|scores|. Needs the extra ``captum``.

    Args:
        baseline: Name of the baseline x' that absent units are at, or a :class:`Baseline`.
        unit: What of a text is absent as a whole: ``token`` or ``word`` (its tokens share its score evenly).
        squares: Of an image: squares a side that are absent as a whole (their locations share their score evenly).
        samples: Coalitions read for each text, at one forward pass each; at least four a unit.
        seed: Of the coalitions: of every text, so that a text has the scores that it has alone.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Coalitions in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).

    Raises:
        ValueError: If an option is out of its range; when called, if the layer has more than 2,048 units.
        ImportError: When called without Captum.
    """

    name: ClassVar[str] = "kernel_shap"

    def coalitions(self, units: int, generator: torch.Generator) -> Coalitions:
        """Return coalitions by the Shapley kernel."""
        return surrogate.coalitions(
            surrogate.shapley_sizes(units), torch.ones(units + 1).double(), self.samples, generator
        )

    def solve(self, masks: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
        """Return Shapley values."""
        return surrogate.shapley_values(masks, values, weights, drawn=drawn)


@dataclass(frozen=True)
class Lime(_Surrogate):
    """Coefficients of a linear surrogate of the model near x (Ribeiro, Singh and Guestrin, 2016, equation 1).

    The surrogate is fitted by least squares with an intercept to coalitions of every size alike, weighted by their
    distance to x as in the authors' explainer of texts; no unit is selected and no coefficient shrunk, so that all have
    a standard error. The scores need not sum to F(x) − F(x'): the error says by how much they miss it, which is what of
    the model is not linear. Needs the extra ``captum``.

    Args:
        baseline: Name of the baseline x' that absent units are at, or a :class:`Baseline`.
        unit: What of a text is absent as a whole: ``token`` or ``word`` (its tokens share its score evenly).
        squares: Of an image: squares a side that are absent as a whole (their locations share their score evenly).
        samples: Coalitions read for each text, at one forward pass each; at least four a unit.
        seed: Of the coalitions: of every text, so that a text has the scores that it has alone.
        error_floor: Floor τ of the relative error's denominator, in units of the output.
        internal_batch_size: Coalitions in one pass; by default as many as make 2,048 tokens (4,096 on a GPU).
        kernel_width: Width w of the kernel exp(−d² / 2w²), d the cosine distance of a coalition to x.

    Raises:
        ValueError: If an option is out of its range; when called, if the layer has more than 2,048 units.
        ImportError: When called without Captum.
    """

    name: ClassVar[str] = "lime"
    kernel_width: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(kernel_width=self.kernel_width)

    def coalitions(self, units: int, generator: torch.Generator) -> Coalitions:
        """Return coalitions of every size alike, weighted by the kernel."""
        sizes = torch.full((units + 1,), 1 / (units + 1), dtype=torch.float64)
        return surrogate.coalitions(sizes, surrogate.local_kernel(units, self.kernel_width), self.samples, generator)

    def solve(self, masks: Tensor, values: Tensor, weights: Tensor, *, drawn: bool) -> Fit:
        """Return the local surrogate."""
        return surrogate.local_surrogate(masks, values, weights, drawn=drawn)


class _Model:
    """What Captum calls an interpretable model: it is fitted to coalitions, values and weights."""

    found: Fit

    def __init__(self, method: _Surrogate, drawn: bool) -> None:
        self.method, self.drawn = method, drawn

    def fit(self, loader: Any) -> None:
        """Fit the surrogate to everything the loader would load, which would draw from the global random state."""
        masks, values, weights = (part.cpu().double() for part in loader.dataset.tensors)
        self.found = self.method.solve(masks, values, weights, drawn=self.drawn)

    def representation(self) -> Tensor:
        """Return the coefficients."""
        return self.found.coefficients


def _players(case: Case, unit: str, squares: int) -> Tensor:
    """Return which player each unit belongs to, long ``(N, T)``: -1 for those that no coalition makes absent."""
    units = case.units
    moves, groups = case.moved(), _groups(units, unit, squares)
    alone = torch.arange(moves.shape[1]) + groups.max() + 1
    groups = torch.where(groups < 0, alone, groups)
    there = torch.zeros(len(moves), int(groups.max()) + 1, dtype=torch.long)
    there = there.scatter_reduce(1, groups, moves.long(), reduce="amax")
    if int(there.sum(dim=1).max()) > MOST_UNITS:
        raise ValueError(
            f"`layer={case.layer!r}` has {int(there.sum(dim=1).max())} units that can be absent, and a surrogate of so "
            f"many needs four times as many coalitions: attribute to a layer with at most {MOST_UNITS}."
        )
    return (there.cumsum(dim=1) - 1).gather(1, groups).masked_fill(~moves, -1)


def _groups(units: Units, unit: str, squares: int) -> Tensor:
    """Return which units are absent together, long ``(N, T)``: a number of each group, -1 for a unit on its own."""
    if units.grid is not None:
        height, width = units.grid
        place = (~units.special).cumsum(dim=1) - 1
        square = (place // width * squares // height) * squares + place % width * squares // width
        return square.masked_fill(units.special, -1)
    if units.kind == "token" and unit == "word":
        return torch.tensor([[-1 if word is None else word for word in row] for row in units.word_ids])
    return torch.full(units.padding.shape, -1)


def _units_of_features(case: Case) -> Tensor:
    """Return the unit of each feature, long ``(*shape)``; -1 for a feature that no unit sums."""
    with torch.enable_grad():  # the transpose of a sum gives each of its terms what the sum is given
        like = torch.zeros_like(case.inputs[:1]).requires_grad_()
        summed = case.per_unit(like)
        number = torch.arange(1, summed.shape[1] + 1, device=like.device, dtype=like.dtype)[None]
        return torch.autograd.grad(summed, like, number)[0][0].long() - 1


def _captum(name: str) -> Any:
    try:
        import captum.attr
    except ImportError as error:
        raise ImportError(
            f"`{name}` runs in Captum, which is not installed: pip install 'lightning-interpret[captum]'."
        ) from error
    return captum.attr
