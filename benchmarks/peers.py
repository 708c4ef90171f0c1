"""What other libraries give for a `transformers` classifier: scores at its word embeddings, and what they cost."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn

#: Coalitions that Captum's LIME and KernelSHAP read for each text: as many as ours; 50 and 25 are Captum's defaults.
COALITIONS = 512


class Embedded(nn.Module):
    """A classifier as a function of its word embeddings, that counts the rows it is called with."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.gradients = self.forwards = 0

    def forward(self, embedded: Tensor, mask: Tensor) -> Tensor:
        """Return logits."""
        if torch.is_grad_enabled():
            self.gradients += len(embedded)
        else:
            self.forwards += len(embedded)
        return self.model(inputs_embeds=embedded, attention_mask=mask).logits


class LeastSquares:
    """Weighted least squares with an intercept, in the place of scikit-learn's, which is not asked for here."""

    def fit(self, loader: Any) -> None:
        """Fit to all that the loader has."""
        masks, values, weights = (part.double() for part in loader.dataset.tensors)
        root = weights.sqrt()[:, None]
        design = torch.cat([masks, torch.ones_like(masks[:, :1])], dim=1)
        self.found = torch.linalg.lstsq(root * design, root * values[:, None], driver="gelsd").solution[:-1, 0]

    def representation(self) -> Tensor:
        """Return the coefficients."""
        return self.found


LXT = "LXT AttnLRP"

#: Scores of a method: of the embeddings x and x' ``(B, T, D)``, the mask, the class and the points in one pass.
Scores = Callable[[Embedded, Tensor, Tensor, Tensor, Tensor, int], Tensor]


def gradient_times_input(
    model: Embedded, x: Tensor, absent: Tensor, mask: Tensor, target: Tensor, chunk: int
) -> Tensor:
    """Return Captum's gradient × input."""
    return captum.attr.InputXGradient(model).attribute(x, target=target, additional_forward_args=(mask,))


def integrated_gradients(
    model: Embedded, x: Tensor, absent: Tensor, mask: Tensor, target: Tensor, chunk: int
) -> Tensor:
    """Return Captum's integrated gradients with its 50 steps."""
    return captum.attr.IntegratedGradients(model).attribute(
        x, absent, target, (mask,), n_steps=50, internal_batch_size=max(chunk, len(x))
    )


def deep_lift(model: Embedded, x: Tensor, absent: Tensor, mask: Tensor, target: Tensor, chunk: int) -> Tensor:
    """Return Captum's DeepLift: its rules where a layer is a module it knows, the gradient elsewhere."""
    return captum.attr.DeepLift(model).attribute(x, absent, target, (mask,))


def occlusion(model: Embedded, x: Tensor, absent: Tensor, mask: Tensor, target: Tensor, chunk: int) -> Tensor:
    """Return Captum's occlusion of a token at a time; it gives each dimension the token's score."""
    scores = captum.attr.Occlusion(model).attribute(
        x, (1, x.shape[2]), baselines=absent, target=target, additional_forward_args=(mask,)
    )
    return scores[..., :1]


def _surrogate(peer: Any, x: Tensor, absent: Tensor, mask: Tensor, target: Tensor, chunk: int) -> Tensor:
    scores = x.new_zeros(x.shape[:2])
    for row, length in enumerate(mask.sum(dim=1).tolist()):  # a surrogate is of one text
        own = slice(row, row + 1), slice(0, length)
        moved = (x[own] != absent[own]).any(dim=2)[0]
        player = (moved.cumsum(dim=0) - 1).clamp(min=0)  # special tokens are the same present and absent
        found = peer.attribute(
            x[own],
            baselines=absent[own],
            target=target[row : row + 1],
            additional_forward_args=(mask[own],),
            feature_mask=player[None, :, None],
            n_samples=COALITIONS,
            perturbations_per_eval=chunk,
            return_input_shape=False,
        )
        scores[row, :length] = found.to(x)[player] * moved
    return scores[..., None]


def lime(model: Embedded, *args: Any) -> Tensor:
    """Return Captum's LIME, by least squares in place of its lasso."""
    return _surrogate(captum.attr.Lime(model, interpretable_model=LeastSquares()), *args)


def kernel_shap(model: Embedded, *args: Any) -> Tensor:
    """Return Captum's KernelSHAP, by least squares that are not scikit-learn's."""
    peer = captum.attr.KernelShap(model)
    peer.interpretable_model = LeastSquares()
    return _surrogate(peer, *args)


#: Captum's methods by the name in the table, and the embeddings that absent tokens have.
CAPTUM: dict[str, tuple[Scores, str]] = {
    "Captum gradient × input": (gradient_times_input, "zero"),
    "Captum integrated gradients, 50": (integrated_gradients, "pad"),
    "Captum Occlusion": (occlusion, "pad"),
    "Captum LIME": (lime, "pad"),
    "Captum KernelSHAP": (kernel_shap, "pad"),
    "Captum DeepLift": (deep_lift, "pad"),
}


def peers(model: nn.Module) -> list[tuple[str, Callable[[], nn.Module], Scores, str]]:
    """Return the peers there are: each a name, what makes its model, its scores, and what it has for absent.

    LXT has nothing for absent: its scores are to sum to F(x). It comes last, as it changes classes of torch and
    `transformers` for good.
    """
    found: list[Any] = [(name, lambda: model, scores, absent) for name, (scores, absent) in CAPTUM.items()]
    if find_spec("lxt") is not None and getattr(model.config, "model_type", "") == "bert":
        found.append((LXT, lambda: _patched(model), gradient_times_input, "nothing"))
    return found


def _patched(model: nn.Module) -> nn.Module:
    """Return the classifier of the same weights, made of what LXT has put in the place of BERT's classes."""
    from lxt.efficient import monkey_patch
    from transformers.models.bert import modeling_bert

    monkey_patch(modeling_bert)
    patched = modeling_bert.BertForSequenceClassification(model.config)
    patched.load_state_dict(model.state_dict())
    return patched.eval().requires_grad_(False)
