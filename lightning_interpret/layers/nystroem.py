"""A Nyström layer: what follows sees how similar an example is to landmarks, which are real training examples."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_interpret.functional.kernels import KernelMatrix
from lightning_interpret.functional.landmarks import choose_landmarks
from lightning_interpret.functional.nystroem import ApproximationError, approximation_error, inverse_root
from lightning_interpret.layers.kernels import Kernel, kernel_named, path_of, single_or_double
from lightning_interpret.names import check_positive, check_whole, choose

PRECOMPUTED = "precomputed"


@dataclass(frozen=True)
class Landmark:
    """What is known of a landmark, a training example.

    Attributes:
        example_id: Its id.
        text: Its text.
        label: Name of its class.
        digest: A digest of its raw input, to find it changed.
    """

    example_id: int | None = None
    text: str | None = None
    label: str | None = None
    digest: str | None = None


class Gram(nn.Module):
    """The kernel between what it is given and the landmarks: ``(…, width) → (…, l)``."""

    features: Tensor

    def __init__(self, kernel: Kernel, width: int, landmarks: int) -> None:
        super().__init__()
        self.kernel = kernel
        self.register_buffer("features", torch.zeros(landmarks, width, dtype=single_or_double()))

    def forward(self, x: Tensor) -> Tensor:
        """Return the kernel."""
        return self.kernel(x, self.features)


class NystroemLayer(nn.Module):
    """c = k(x, landmarks), times K^(−1/2), times a trained projection (Croce et al., 2017): ``(…, width) → (…, l)``.

    With a head on top it is the kernel machine that has K̂ = C K⁺ Cᵀ for its kernel. Under
    ``.half()``, ``.bfloat16()`` and autocast it stays and computes in single precision, and returns what it was given.
    The kernel matrix of the landmarks and its root are computed in double precision when landmarks are set; while the
    kernel's parameters are trained the root stays, until :meth:`refresh`.

    Args:
        width: Width of the features.
        landmarks: How many landmarks, l.
        kernel: ``rbf``, ``linear``, ``polynomial``, ``cosine``; a function of one's own, or a module, ``(…, d) × (l,
            d) → (…, l)``, or its import path; ``precomputed`` where the input is the row c itself (``width`` is l).
        options: Options of the kernel: ``scale``, ``learned`` (True), ``degree``, ``offset``.
        projection: ``trained``, from the identity on; ``fixed`` for none.
        rtol: Eigenvalues of K under this share of the largest are dropped.
        gain: What the output is multiplied by. With 1 it has K̂ for its products, and so a length of at most 1 where
            k(x, x) is 1; with √l its numbers are of the size that a head's learning rate is made for.

    Attributes:
        gram: The submodule whose output is c.
        rank: How many eigenvalues were kept; 0 while there are no landmarks.
        gram_error: Relative error of the approximated kernel matrix, as whoever set the landmarks measured it; None
            again when they are set or refreshed.

    Raises:
        ValueError: If an option does not exist or has a value that makes no sense.
    """

    factor: Tensor
    projection: nn.Parameter | None

    def __init__(
        self,
        width: int,
        landmarks: int,
        kernel: str | Callable[[Tensor, Tensor], Tensor] = "rbf",
        options: Mapping[str, Any] | None = None,
        *,
        projection: str = "trained",
        rtol: float = 1e-6,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        check_whole(width=width, landmarks=landmarks)
        check_positive(rtol=rtol, gain=gain)
        choose("projection", projection, ("trained", "fixed"))
        self.width, self.count, self.rtol, self.gain, self.rank = width, landmarks, rtol, gain, 0
        self.gram_error: float | None = None
        self.kernel = kernel if isinstance(kernel, str) else path_of(kernel)
        self._landmarks = (Landmark(),) * landmarks
        dtype = single_or_double()
        if kernel == PRECOMPUTED:
            if width != landmarks or options:
                raise ValueError(
                    f"`kernel='precomputed'` takes rows of {landmarks} kernel values: `width={width}` must be "
                    f"{landmarks}, and `options={options}` belong to your kernel."
                )
            self.gram: Gram | nn.Identity = nn.Identity()
        else:
            self.gram = Gram(kernel_named(kernel, options), width, landmarks)
        self.register_buffer("factor", torch.zeros(landmarks, landmarks, dtype=dtype))
        # no `nn.Linear`: whoever looks for the last linear layer of a module is looking for the head
        trained = nn.Parameter(torch.eye(landmarks, dtype=dtype)) if projection == "trained" else None
        self.register_parameter("projection", trained)

    @property
    def ready(self) -> bool:
        """Whether there are landmarks."""
        return self.rank > 0

    @property
    def features(self) -> Tensor | None:
        """The features of the landmarks, ``(l, width)``; None where the kernel is precomputed."""
        return self.gram.features if isinstance(self.gram, Gram) else None

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """What is known of each landmark."""
        return self._landmarks

    @landmarks.setter
    def landmarks(self, facts: Sequence[Landmark]) -> None:
        if len(facts) != self.count:
            raise ValueError(f"There are {self.count} landmarks, but facts of {len(facts)}.")
        self._landmarks = tuple(facts)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features that the head is given, in the precision of ``x``."""
        if not self.rank:
            raise RuntimeError(
                "The Nyström layer has no landmarks yet: call `choose(...)` or `set_landmarks(...)` with features of "
                "training examples, or load a checkpoint that has them (`KernelMixin` chooses in `on_fit_start`)."
            )
        if x.shape[-1] != self.width:
            raise ValueError(f"The Nyström layer takes features of width {self.width}, these have {x.shape[-1]}.")
        with torch.autocast(x.device.type, enabled=False):
            mapped = F.linear(self.gram(x.to(self.factor.dtype)), self.factor)
            if self.projection is not None:
                mapped = F.linear(mapped, self.projection)
        return (mapped * self.gain).to(x.dtype)

    @torch.no_grad()
    def choose(
        self,
        examples: Tensor | KernelMatrix,
        method: str = "greedy",
        *,
        labels: Tensor | None = None,
        seed: int = 0,
        units: Tensor | None = None,
    ) -> Tensor:
        """Choose landmarks, set them, and return their positions, long ``(l,)``; the projection starts anew.

        Args:
            examples: Features ``(n, width)`` to choose from; the kernel matrix of the examples if it is precomputed.
            method: As of :func:`choose_landmarks`.
            labels: Classes ``(n,)``, for ``balanced``.
            seed: Seed of what is drawn.
            units: Features ``(m, width)`` that the unit of a scale that was not given is measured on; by default a
                thousand of the examples.

        Raises:
            ValueError: If the examples are too few, not finite, or of another width.

        Warns:
            UserWarning: If examples that are the same had to be taken, or the kernel is indefinite on the landmarks.
        """
        if isinstance(examples, KernelMatrix):
            self._check_kind(PRECOMPUTED, "choose(features)")
            places = choose_landmarks(examples, self.count, method, labels=labels, seed=seed)
            self.set_gram(examples.square(places))
            return places
        self._check_features(examples, None)
        sample = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed))[:1000]
        self._fit(examples[sample] if units is None else units)
        matrix = KernelMatrix.of_features(self._double(), examples)
        places = choose_landmarks(matrix, self.count, method, labels=labels, seed=seed)
        self._set(examples[places])
        self._start_anew(None)
        return places

    @torch.no_grad()
    def set_landmarks(self, features: Tensor, facts: Sequence[Landmark] | None = None) -> None:
        """Set the landmarks by their features ``(l, width)``, the kernel's unit too; the projection starts anew."""
        self._check_features(features, self.count)
        self._fit(features)
        self._set(features)
        self._start_anew(facts)

    @torch.no_grad()
    def set_gram(self, matrix: Tensor, facts: Sequence[Landmark] | None = None) -> None:
        """Set the landmarks by their kernel matrix ``(l, l)``, where it is precomputed; the projection starts anew."""
        self._check_kind(PRECOMPUTED, "set_landmarks(features)")
        self._take(matrix)
        self._start_anew(facts)

    @torch.no_grad()
    def refresh(self, features: Tensor | None = None, units: Tensor | None = None) -> None:
        """Take the features that the landmarks have now, ``(l, width)``; landmarks and projection stay.

        Args:
            features: None: they stay, and the root is computed by the kernel's present parameters.
            units: As of :meth:`choose`; None: the unit stays.
        """
        features = self.features if features is None else features
        if features is None or not self.rank:
            raise RuntimeError("There are no landmarks with features to refresh: call `set_landmarks` first.")
        self._check_features(features, self.count)
        if units is not None:
            self._fit(units)
        self._set(features)

    @torch.no_grad()
    def approximation_error(self, features: Tensor) -> ApproximationError:
        """Return the error of the approximation on features of examples, ``(n, width)``, in double precision."""
        self._check_features(features, None)
        kernel, features = self._double(), features.cpu()
        landmarks = self._own.features.cpu().double()
        root = inverse_root(kernel(landmarks, landmarks), self.rtol)
        mapped = torch.cat([kernel(part.double(), landmarks) @ root.factor for part in features.split(4096)])
        return approximation_error(KernelMatrix.of_features(kernel, features), mapped)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the kernel's name, the rank and what is known of the landmarks, in plain types."""
        facts = [asdict(each) for each in self._landmarks]
        return {"kernel": self.kernel, "rank": self.rank, "gram_error": self.gram_error, "landmarks": facts}

    def set_extra_state(self, state: Mapping[str, Any]) -> None:
        """Take what :meth:`get_extra_state` returned.

        Raises:
            ValueError: If the checkpoint is of another kernel, or of more or fewer landmarks.
        """
        if state["kernel"] != self.kernel:
            raise ValueError(f"The checkpoint was made with `kernel={state['kernel']!r}`, not {self.kernel!r}.")
        if len(state["landmarks"]) != self.count:
            raise ValueError(f"The checkpoint has {len(state['landmarks'])} landmarks, not `landmarks={self.count}`.")
        self.rank, self.gram_error = state["rank"], state["gram_error"]
        self.landmarks = [Landmark(**each) for each in state["landmarks"]]

    def extra_repr(self) -> str:
        """Return the options."""
        return f"width={self.width}, landmarks={self.count}, kernel={self.kernel!r}, rank={self.rank}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NystroemLayer:
        """Go to another device or precision, but never a half one."""

        def kept(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            half = moved.is_floating_point() and moved.dtype.itemsize < 4
            return tensor.to(moved.device) if half else moved

        return super()._apply(kept, recurse)

    def _fit(self, features: Tensor) -> None:
        self._check_features(features, None)
        self._own.kernel.fit(features.cpu().double())

    def _set(self, features: Tensor) -> None:
        features = features.detach().to(self._own.features)
        exact = features.cpu().double()
        self._take(self._double()(exact, exact))
        self._own.features.copy_(features)

    def _take(self, matrix: Tensor) -> None:
        if matrix.shape != (self.count, self.count):
            raise ValueError(f"The kernel matrix of {self.count} landmarks cannot have shape {tuple(matrix.shape)}.")
        root = inverse_root(matrix, self.rtol)
        if root.negative:
            warnings.warn(
                f"The kernel {self.kernel!r} is indefinite on the landmarks (lowest eigenvalue {root.negative:.2g} of "
                "the largest): the part that is no inner product is dropped.",
                stacklevel=4,
            )
        self.factor.copy_(root.factor)
        self.rank, self.gram_error = root.rank, None  # what was measured is of other landmarks

    def _start_anew(self, facts: Sequence[Landmark] | None) -> None:
        self.landmarks = (Landmark(),) * self.count if facts is None else tuple(facts)
        if self.projection is not None:
            nn.init.eye_(self.projection)

    @property
    def _own(self) -> Gram:
        """The Gram layer that has features, where the kernel is not precomputed."""
        assert isinstance(self.gram, Gram)
        return self.gram

    def _double(self) -> Kernel:
        """Return the kernel as it is now, in double precision on the CPU: the same root on every device and rank."""
        return deepcopy(self._own.kernel).to("cpu", torch.float64)

    def _check_kind(self, kind: str, instead: str) -> None:
        if self.kernel != kind:
            raise ValueError(f"A kernel matrix was given, but `kernel={self.kernel!r}`: call `{instead}`.")

    def _check_features(self, features: Tensor, count: int | None) -> None:
        if self.kernel == PRECOMPUTED:
            raise ValueError("Features were given, but `kernel='precomputed'`: call `set_gram`, or `choose(matrix)`.")
        if features.dim() != 2 or features.shape[1] != self.width or len(features) != (count or len(features)):
            wanted = f"({count or 'n'}, {self.width})"
            raise ValueError(f"The features have shape {tuple(features.shape)}: they must be {wanted}.")
        if not bool(features.isfinite().all()):
            raise ValueError("The features of examples are not all finite.")
