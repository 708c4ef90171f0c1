"""KernelMixin: a head that sees how similar an example is to some training examples, its landmarks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_interpret.evidence import Landmarks
from lightning_interpret.functional.features import find_layer
from lightning_interpret.functional.landmarks import METHODS
from lightning_interpret.functional.layers import last_linear
from lightning_interpret.functional.scope import explaining
from lightning_interpret.layers.before_head import BeforeHead, put_before
from lightning_interpret.layers.nystroem import PRECOMPUTED, NystroemLayer
from lightning_interpret.layers.raw_kernel import RawKernel
from lightning_interpret.methods.landmarks import READABLE, LandmarkRelevance
from lightning_interpret.mixins.kernel.landmarks import KernelLandmarks
from lightning_interpret.mixins.task import known_task
from lightning_interpret.names import check_seed, check_whole, choose
from lightning_interpret.tasks import batches


class KernelMixin(KernelLandmarks):
    """A Nyström layer of landmarks, real training examples, between an encoder and its head (Croce et al., 2017).

    The head's input h becomes ``self.kernel(h)``: the kernel between h and what the landmarks are there, whitened, then
    a trained projection. Landmarks are chosen when ``fit`` starts, among training examples that are read by index and
    carry ids, and are encoded anew while training moves the encoder. They are saved with the module.

    Landmarks are encoded in evaluation mode; as training meets them, with its dropout, only while they could not be
    told apart without (K has rank 1), as when an encoder starts from random weights. The unit of a kernel's scale that
    was not given is measured on examples as training meets them, whenever landmarks are encoded.

    A module that calls the layer itself makes it, ``self.kernel = self.kernel_layer(width)``; nothing is attached.

    Logged: ``kernel/approximation_error`` (‖K − K̂‖ / ‖K‖ on at most 256 training examples, measured when landmarks are
    chosen and as each epoch starts) and ``kernel/rank``.

    Args:
        kernel: ``linear``, ``rbf``, ``polynomial`` or ``cosine``; or a function of one's own, or where to import it
            from, ``"package.module.function"``: of features ``(…, d) × (l, d) → (…, l)``, or of raw inputs. An encoder
            learns about as fast as without the layer with ``linear``, and more slowly with the others.
        kernel_options: Options of the kernel: ``scale``, ``learned``, ``degree``, ``offset``.
        kernel_landmarks: How many landmarks, l: what the head reads.
        kernel_head: Name of the head, a linear layer; by default the one defined last. One that does not read l numbers
            gives its place to one that does.
        kernel_choice: How landmarks are chosen: ``k_means++``, ``greedy``, ``leverage``, ``balanced`` or ``random``.
        kernel_candidates: How many training examples they are chosen among, spread evenly over the data.
        kernel_rtol: Eigenvalues of the landmarks' kernel matrix under this share of the largest are dropped. With 0.01
            landmarks that are alike speak alike, and explanations are easier to read, but an encoder that is still to
            learn what tells examples apart may not learn it.
        kernel_projection: ``trained``, from the identity on; ``fixed`` for none.
        kernel_refresh: When landmarks are encoded anew: after so many steps of the optimizer; at the start of each
            ``epoch``, and in the first one after 1, 2, 4, 8, ... steps; ``never``.
        kernel_seed: Seed of the choice.
        kernel_inputs: ``features``; or ``texts`` for a kernel ``(list of n, list of m) → (n, m)`` on the strings that
            :meth:`raw_inputs` gives. There is no encoder then: ``forward`` is
            ``self.head(self.kernel_features(batch))``.
        kernel_rows: How many rows of that kernel are kept: so many times l numbers.

    Raises:
        ValueError: If an option does not exist or makes no sense; when the layer is attached, if there is no such head
            or it is not linear; when ``fit`` starts, if there are too few examples, or more classes than landmarks.
    """

    def __init__(
        self,
        *args: Any,
        kernel: str | Callable[..., Any] = "linear",
        kernel_options: Mapping[str, Any] | None = None,
        kernel_landmarks: int = 100,
        kernel_head: str | None = None,
        kernel_choice: str = "k_means++",
        kernel_candidates: int = 2000,
        kernel_rtol: float = 1e-6,
        kernel_projection: Literal["trained", "fixed"] = "trained",
        kernel_refresh: Literal["epoch", "never"] | int = 16,
        kernel_seed: int = 0,
        kernel_inputs: Literal["features", "texts"] = "features",
        kernel_rows: int = 100_000,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        check_whole(kernel_landmarks=kernel_landmarks, kernel_candidates=kernel_candidates, kernel_rows=kernel_rows)
        check_seed(kernel_seed)
        choose("kernel_choice", kernel_choice, METHODS)
        choose("kernel_inputs", kernel_inputs, ("features", "texts"))
        if isinstance(kernel_refresh, str):
            choose("kernel_refresh", kernel_refresh, ("epoch", "never"))
        else:
            check_whole(kernel_refresh=kernel_refresh)
        if kernel_candidates < kernel_landmarks:
            raise ValueError(
                f"`kernel_candidates={kernel_candidates}` are fewer than `kernel_landmarks={kernel_landmarks}`, which "
                "are chosen among them."
            )
        kernel = kernel.replace(":", ".") if isinstance(kernel, str) else kernel
        raw = kernel_inputs == "texts"
        self._kernel_raw = RawKernel(kernel, kernel_rows) if raw else None
        # in a mapping, as a kernel that is a module would become a child of this one
        self._kernel_layer: dict[str, Any] = {"kernel": PRECOMPUTED if raw else kernel, "projection": kernel_projection}
        self._kernel_layer |= {"rtol": kernel_rtol, "gain": kernel_landmarks**0.5}
        self._kernel_layer |= {} if kernel_options is None else {"options": dict(kernel_options)}
        self._kernel_count, self._kernel_candidates = kernel_landmarks, kernel_candidates
        self._kernel_head, self._kernel_choice, self._kernel_seed = kernel_head, kernel_choice, kernel_seed
        self._kernel_refresh, self._kernel_step = kernel_refresh, -1  # the step that the landmarks were read at
        self._kernel_place: BeforeHead | None = None
        self._kernel_detached = False
        layer = self.kernel_layer(kernel_landmarks)  # what cannot work is refused now
        if raw:
            self.kernel = layer

    # Attaching

    def attach(self) -> None:
        """Put the layer before the head where that has not been done; before others look for the head."""
        if "kernel" not in self._modules and not self._kernel_detached and last_linear(self) is not None:
            self.attach_kernel()
        super().attach()

    def attach_kernel(self) -> None:
        """Put a kernel layer before the head from now on: before optimizers are made, and a checkpoint is loaded.

        Raises:
            ValueError: If there is a layer already, or no linear layer of this name.
        """
        if "kernel" in self._modules:
            raise ValueError(f"{type(self).__name__} has a kernel layer already: call `detach_kernel()` first.")
        name = last_linear(self) if self._kernel_head is None else self._kernel_head
        head = None if name is None else find_layer(self, name)
        if name is None or not isinstance(head, torch.nn.Linear):
            found = "no linear layer" if head is None else f"a {type(head).__name__} as {name!r}"
            raise ValueError(
                f"{type(self).__name__} has {found}: name a linear layer that is its head, `kernel_head=`."
            )
        layer = self.kernel_layer(head.in_features).to(head.weight.device)
        self._kernel_place = put_before(self, name, layer, self._kernel_count)
        self.kernel = layer
        self._kernel_detached = False

    def detach_kernel(self) -> None:
        """Take the layer out, and put the module's own head back: what is left is the module without it.

        Raises:
            ValueError: If no layer is attached.
        """
        if self._kernel_place is None:
            raise ValueError(
                f"No kernel layer is attached to {type(self).__name__}: what it calls itself cannot be taken out."
            )
        self._kernel_place.take_out()
        self._kernel_place, self._kernel_detached = None, True
        del self.kernel

    def become_plain(self) -> None:
        """Take the layer out for good.

        Raises:
            ValueError: If the module calls the layer itself.
        """
        super().become_plain()
        self.detach_kernel()

    def kernel_layer(self, width: int) -> NystroemLayer:
        """Return a new layer for features of some width, for a module that calls it itself: ``self.kernel = ...``."""
        return NystroemLayer(width, self._kernel_count, **self._kernel_layer)

    def explain(self, batch: Any, which: str = "predicted", method: LandmarkRelevance | None = None) -> Landmarks:
        """Return the landmarks that speak for what is predicted of each example, and those that speak against it.

        Args:
            batch: A batch, on whatever device.
            which: ``predicted``, ``gold``, a label, or a contrast ``A-B``.
            method: With its options; by default ``LandmarkRelevance(smoothing=0.1)``, which is easier to read.
        """
        method = LandmarkRelevance(smoothing=READABLE) if method is None else method
        with explaining(self, full_precision=True):
            batch = batches.to_full_precision(batches.to(batch, self.device))
            return method(self, batch, known_task(self), which=which)

    explain_landmarks = explain  # by its kind, where another mixin stands first

    # A kernel on raw inputs

    def raw_inputs(self, batch: Any) -> Sequence[str]:
        """Return what a kernel on raw inputs reads of a batch: its texts, unless overridden (a tree in brackets, say).

        Raises:
            ValueError: If the batch has no texts.
        """
        texts = known_task(self).texts(batch)
        if texts is None:
            raise ValueError(f"{type(self).__name__} has no texts in its batches: override `raw_inputs(batch)`.")
        return texts

    @torch.compiler.disable
    def kernel_features(self, batch: Any) -> Tensor:
        """Return what the layer makes of a batch of raw inputs, ``(B, l)``.

        Raises:
            ValueError: If the kernel is one of features.
        """
        if self._kernel_raw is None:
            raise ValueError("`kernel_inputs='features'`: call `self.kernel(h)` with the features h.")
        if not self.kernel.ready:
            return self.kernel(self.kernel.factor)  # which says so
        landmarks = [each.text or "" for each in self.kernel.landmarks]
        return self.kernel(self._kernel_raw.rows(self.raw_inputs(batch), landmarks).to(self.kernel.factor))
