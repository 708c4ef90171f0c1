"""Integrated gradients of every output token, by hand: a loop over rows, tokens and nodes, in float64, by autograd.

Nothing is shared with the package: the model reads ``inputs_embeds`` (``decoder_inputs_embeds``) of one text without
padding, the nodes are numpy's of Gauss and Legendre's rule.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy
import torch


@dataclass
class TokenScores:
    """What one output token comes to: the row, its place among the row's outputs, and a score for each token read.

    The tokens are those of the prompt and of the output before it; of an encoder-decoder, those of the source and then
    of what the decoder was given.
    """

    row: int
    place: int
    ids: list[int]
    scores: torch.Tensor
    target: float
    baseline_target: float


def causal(model, prompts, outputs, *, absent, special=(), steps=200, output="log_prob"):
    """Return the scores of each output token of a causal language model, row by row.

    Args:
        model: A `transformers` model that takes ``inputs_embeds``; it is copied to float64.
        prompts: Lists of ids, without padding.
        outputs: Lists of ids.
        absent: The id whose embedding tokens have that are absent, or ``"zero"``.
        special: Ids that stay.
        steps: Nodes.
        output: ``logit``, ``log_prob``, ``prob`` or ``margin``.
    """
    model, found = deepcopy(model).double().eval(), []
    for row, (prompt, continued) in enumerate(zip(prompts, outputs, strict=True)):
        for place, target in enumerate(continued):
            read = [*prompt, *continued[:place]]
            here = _embedded(model.get_input_embeddings(), read)
            away = _absent(model.get_input_embeddings(), here, read, absent, special)

            def logits(embedded):
                return model(inputs_embeds=embedded[None], use_cache=False).logits[0, -1]

            found.append(TokenScores(row, place, read, *_integrate(logits, here, away, target, steps, output)))
    return found


def encoder_decoder(model, sources, outputs, *, start, absent, special=(), steps=200, output="log_prob"):
    """Return the scores of each output token of an encoder-decoder; ``start`` is its first decoder input, and stays."""
    model, found = deepcopy(model).double().eval(), []
    read_by, given_by = model.get_encoder().embed_tokens, model.get_decoder().embed_tokens
    for row, (source, continued) in enumerate(zip(sources, outputs, strict=True)):
        for place, target in enumerate(continued):
            given = [start, *continued[:place]]
            here = torch.cat([_embedded(read_by, source), _embedded(given_by, given)])
            away = torch.cat(
                [
                    _absent(read_by, here[: len(source)], source, absent, special),
                    _absent(given_by, here[len(source) :], given, absent, {*special, start}),
                ]
            )

            def logits(embedded, cut=len(source)):  # noqa: B008
                parts = {"inputs_embeds": embedded[None, :cut], "decoder_inputs_embeds": embedded[None, cut:]}
                return model(**parts, use_cache=False).logits[0, -1]

            scores = _integrate(logits, here, away, target, steps, output)
            found.append(TokenScores(row, place, [*source, *given], *scores))
    return found


def _embedded(table, ids):
    return table(torch.tensor(ids)).detach()


def _absent(table, here, ids, absent, special):
    away = torch.zeros_like(here) if absent == "zero" else _embedded(table, [absent]).expand_as(here)
    stays = torch.tensor([token in special for token in ids])
    return torch.where(stays[:, None], here, away)


def _integrate(logits, here, away, target, steps, output):
    """Return the scores of each token, F(x) and F(x')."""
    at_x = logits(here).detach()
    rival = int(at_x.index_fill(0, torch.tensor(target), -torch.inf).argmax())  # frozen at x

    def explained(embedded):
        found = logits(embedded)
        if output == "log_prob":
            return found.log_softmax(dim=0)[target]
        if output == "prob":
            return found.softmax(dim=0)[target]
        return found[target] - (found[rival] if output == "margin" else 0)

    nodes, weights = numpy.polynomial.legendre.leggauss(steps)
    total = torch.zeros_like(here)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        point = (away + float(node) * (here - away)).requires_grad_()
        total += float(weight) * torch.autograd.grad(explained(point), point)[0]
    with torch.no_grad():
        ends = float(explained(here)), float(explained(away))
    return (total * (here - away)).sum(dim=1), *ends
