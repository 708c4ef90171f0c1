"""What one batch of probes says of each method: the same examples, targets and erased tokens for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import combinations, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lightning_interpret.functional.agreement import top_agreement
from lightning_interpret.functional.complexity import gini
from lightning_interpret.functional.faithfulness import (
    aopc,
    comprehensiveness,
    highest,
    leave_one_out,
    log_odds,
    sufficiency,
)
from lightning_interpret.functional.plausibility import auprc, span_matches, token_f1
from lightning_interpret.functional.randomisation import reinitialised
from lightning_interpret.functional.ranks import kendall
from lightning_interpret.functional.scope import explaining, frozen_weights
from lightning_interpret.methods import Method
from lightning_interpret.methods.perturbed import CHANGE, Perturbed
from lightning_interpret.tasks import Task, TextTask, batches
from lightning_interpret.trust.ask import Said, ask
from lightning_interpret.trust.figures import FIGURES, RANDOM, Probed, of_examples
from lightning_interpret.trust.sensitivity import sensitivity
from lightning_interpret.trust.setting import Setting, measured_in

#: Units up to which the model is asked without each of them, and orders are compared pair by pair.
MOST_UNITS = 512
_ASKED = 4096  # sets of units that are asked of in one call, which asks each of them in passes of its own size

_NO_ORDER = "the scores, or what they are compared with, are all the same: there is no order"
_NO_TOKENS = "the text has no tokens of its own"
_TOO_MANY = f"more than {MOST_UNITS} units: too many for a forward pass of each, and to compare orders pair by pair"
_PLAUSIBLE = ("token_f1", "iou_f1", "auprc")

Columns = dict[str, Tensor]  # by figure, (N,) in double precision, NaN where it is not known


def measure(
    module: nn.Module,
    batch: Any,
    task: Task,
    methods: Mapping[str, Method],
    setting: Setting,
    gold: Tensor | None = None,
) -> list[Probed]:
    """Return what each example of a batch says of each method, and of the random order.

    Of an example with several targets (labels, entities, tokens that are written) that is the mean over these, and the
    sum of seconds and passes. What is lost where tokens are erased is measured in what :func:`.measured_in` says.

    Args:
        module: The module; it is left as it was.
        batch: The probes.
        task: How module and batch are read.
        methods: Methods by name.
        setting: What they are asked and measured by.
        gold: What people selected, ``(N, T)``, 1 or 0, −100 where it is not known; by default the batch's
            ``rationale``.

    Raises:
        ValueError: If the batch cannot be read, its classes do not exist, or the erased tokens cannot be replaced: what
            no method could help. A method that fails is a reason, not an error.
    """
    gold = batches.get(batch, "rationale") if gold is None else gold
    size, measured = batches.batch_size(batch), measured_in(task, setting.which)
    model = _opened(module, batch, task, setting, measured)
    given = module, model.batch, task, model.targets, setting.output, model.counts.shape
    said = {name: ask(method, *given) for name, method in methods.items()}
    drawn = _orders(model, task.example_ids(batch), setting)
    scores = torch.cat([torch.stack([each.scores for each in said.values()]), drawn[:-1]])
    of = model.targets.example.cpu()
    gold = gold[of.to(gold.device)] if isinstance(gold, Tensor) and len(gold) == size else gold
    columns, reasons = _columns(model, scores.abs() if measured == CHANGE else scores, setting, gold, measured)
    found = {name: figures | each.figures for (name, each), figures in zip(said.items(), columns, strict=False)}
    why = {name: reasons | each.reasons for name, each in said.items()}
    drawn_columns = columns[len(said) :]
    found[RANDOM] = {name: torch.stack([each[name] for each in drawn_columns]).mean(dim=0) for name in drawn_columns[0]}
    why[RANDOM] = reasons | dict.fromkeys(
        ("relative_error", "seconds", "passes"), "an order drawn at random is no method"
    )
    unordered = _NO_ORDER if model.counts.shape[1] <= MOST_UNITS else _TOO_MANY
    unknown = unordered if setting.randomised else "it was not asked for (`randomised=False`)"
    why = {name: {"randomisation": unknown} | each for name, each in why.items()}
    if setting.randomised:
        with frozen_weights(module, values=reinitialised(module, setting.seed).values):
            again = {name: ask(method, *given) for name, method in methods.items() if said[name].known.any()}
        for name, each in again.items():
            found[name]["randomisation"] = _order(said[name].scores, each.scores, model.counts)
            found[name]["randomisation"][~each.known] = torch.nan
            if (failed := next((reason for reason in each.failed if reason is not None), None)) is not None:
                why[name]["randomisation"] = f"of random weights it failed: {failed}"
        orders = [_order(*pair, model.counts) for pair in pairwise(drawn)]
        found[RANDOM]["randomisation"] = torch.stack(orders).mean(dim=0)
    for name in methods if setting.sensitivity else ():
        if said[name].known.all():
            values, reason = sensitivity(model, methods[name], setting.output, setting.sensitivity, setting.seed)
            found[name]["max_sensitivity"], why[name]["max_sensitivity"] = values, reason
        else:
            why[name]["max_sensitivity"] = "it fails at a probe that is explained with this one"
    return of_examples(_rows(model, said, found, why, _agreement(model.counts, said, setting.top)), of.tolist(), size)


def _opened(module: nn.Module, batch: Any, task: Task, setting: Setting, measured: str) -> Perturbed:
    """Return the module at the examples.

    Raises:
        ValueError: If it has one score, or several targets an image.
    """
    try:
        model = Perturbed(module, batch, task, baseline=setting.baseline, which=setting.which, output=measured)
    except ValueError as error:
        with explaining(module), torch.no_grad():
            logits = task.logits(module, task.take(batch, torch.tensor([0])))
        if isinstance(logits, Tensor) and logits.dim() == 2 and logits.shape[1] == 1:
            raise ValueError(
                "The model has one score, as in regression, and methods are compared by the probability that a class "
                "loses: give a model with two classes or more, or `task=Regression(...)`, of which it is the change."
            ) from error
        raise
    found, examples = len(model.targets.example), batches.batch_size(batch)
    if found != examples and not isinstance(task, TextTask):
        raise ValueError(
            f"`which={setting.which!r}` has {found} targets in {examples} examples, and methods are compared by one an "
            "example: compare them on a model that gives one answer an example."
        )
    return model


def _columns(
    model: Perturbed, scores: Tensor, setting: Setting, gold: Tensor | None, measured: str
) -> tuple[list[Columns], dict[str, str]]:
    """Return the figures of K orders ``(K, N, T)``, and why a figure that they all lack is missing."""
    counts = model.counts
    asked: dict[str, Any] = {"kept": model.kept, "chunk": _ASKED}
    many = len(scores)
    flat, every = scores.flatten(0, 1), counts.repeat(many, 1)
    found = {
        "comprehensiveness": aopc(comprehensiveness(scores, counts, bins=setting.bins, **asked).flatten(0, 1)),
        "sufficiency": aopc(sufficiency(scores, counts, bins=setting.bins, **asked).flatten(0, 1)),
        "gini": gini(flat, every),
    }
    reasons = {"comprehensiveness": _NO_TOKENS, "sufficiency": _NO_TOKENS, "log_odds": _NO_TOKENS}
    reasons |= {"gini": "every score is 0", "leave_one_out": _NO_ORDER}
    if measured == CHANGE:
        reasons["log_odds"] = "a number has no probability, and so no logarithm of one"
    elif measured == "log_prob":  # which is the logarithm already
        found["log_odds"] = comprehensiveness(scores, counts, bins=(setting.share,), **asked).flatten()
    elif model.targets.contrast:
        reasons["log_odds"] = "a contrast of two probabilities has no logarithm"
    else:
        found["log_odds"] = log_odds(scores, counts, share=setting.share, **asked).flatten()
    if counts.shape[1] <= MOST_UNITS:
        found["leave_one_out"] = kendall(flat, leave_one_out(counts, **asked).repeat(many, 1), every)
    else:
        reasons["leave_one_out"] = _TOO_MANY
    if gold is None:
        reasons |= dict.fromkeys(_PLAUSIBLE, "the batch has no `rationale`")
    elif gold.shape != counts.shape:
        why = f"the rationale {tuple(gold.shape)} is not of the units {tuple(counts.shape)}"
        reasons |= dict.fromkeys(_PLAUSIBLE, why)
    else:
        reasons |= dict.fromkeys(_PLAUSIBLE, "nobody selected anything of the text")
        found |= _plausible(flat, gold.cpu().repeat(many, 1), every, setting.share)
    parts = [{name: values.view(many, -1)[k].clone() for name, values in found.items()} for k in range(many)]
    missing = torch.full((len(counts),), torch.nan, dtype=torch.float64)
    return [dict.fromkeys(reasons, missing) | each for each in parts], reasons


def _plausible(scores: Tensor, gold: Tensor, counts: Tensor, share: int) -> Columns:
    """Return how the highest share of the tokens agrees with what people selected; NaN where they selected nothing."""
    selected = highest(scores, counts, (share,))[0]
    matches, spans, true = span_matches(selected, gold, counts)
    nothing = true == 0
    found = {
        "token_f1": token_f1(selected, gold, counts, empty="skip"),
        "iou_precision": (matches.double() / spans).masked_fill(nothing | (spans == 0), torch.nan),
        "iou_recall": (matches.double() / true).masked_fill(nothing, torch.nan),
        "auprc": auprc(scores, gold, counts),
    }
    return {name: values.double() for name, values in found.items()}


def _orders(model: Perturbed, ids: Sequence[int] | None, setting: Setting) -> Tensor:
    """Return scores drawn at random, ``(orders + 1, N, T)``: of an example the same ones in any batch."""
    drawn = torch.zeros(setting.orders + 1, *model.counts.shape, dtype=torch.float64)
    texts, padding = model.units.texts, model.units.padding.tolist()
    example = model.targets.example.tolist()
    for i, counts in enumerate(model.counts):
        of_text = [token for token, pad in zip(texts[i], padding[i], strict=False) if not pad]
        told = ids[example[i]] if ids is not None else of_text or example[i]
        number = example[:i].count(example[i])  # of an example's targets each has an order of its own
        name = f"{setting.seed}/{told}" + (f"/{number}" if number else "")
        digest = blake2b(name.encode(errors="replace"), digest_size=7).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little"))
        size = len(drawn), int(counts.sum())
        drawn[:, i, counts] = torch.rand(size, generator=generator, dtype=torch.float64)
    return drawn


def _order(first: Tensor, second: Tensor, counts: Tensor) -> Tensor:
    """Return how alike two orders are, ``(N,)``; NaN where there is none, or units are too many to pair."""
    return kendall(first, second, counts) if counts.shape[1] <= MOST_UNITS else first.new_full((len(first),), torch.nan)


def _agreement(counts: Tensor, said: Mapping[str, Said], top: int) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Return of each pair of methods Kendall's τ and the share of the largest units that they have in common."""
    found = {}
    for first, second in combinations(said, 2):
        one, other = said[first].scores, said[second].scores
        known = said[first].known & said[second].known
        values = _order(one, other, counts), top_agreement(one, other, counts, k=top)["feature"]
        found[first, second] = values[0].where(known, torch.nan), values[1].where(known, torch.nan)
    return found


def _rows(
    model: Perturbed,
    said: Mapping[str, Said],
    found: Mapping[str, Columns],
    why: Mapping[str, Mapping[str, str]],
    agreement: Mapping[tuple[str, str], tuple[Tensor, Tensor]],
) -> list[Probed]:
    """Return the columns as a row an example, in plain Python; a method that failed at one has no figures of it."""
    rows = []
    for i, there in enumerate(model.counts.any(dim=1).tolist()):
        failed = {name: reason for name, each in said.items() if (reason := each.failed[i]) is not None}
        figures, reasons = dict[str, dict[str, float]](), dict[str, dict[str, str]]()
        for name in (name for name in found if name not in failed):
            values = {figure: float(column[i]) for figure, column in found[name].items()} if there else {}
            figures[name] = {figure: value for figure, value in values.items() if value == value}
            told = why[name] if there or name == RANDOM else dict.fromkeys(FIGURES, _NO_TOKENS)
            reasons[name] = {figure: reason for figure, reason in told.items() if figure not in figures[name]}
        pairs = {
            pair: (float(tau[i]) if tau[i] == tau[i] else None, float(share[i]))
            for pair, (tau, share) in agreement.items()
            if share[i] == share[i]
        }
        rows.append(Probed(figures, pairs, failed, reasons))
    return rows
