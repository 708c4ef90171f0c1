"""Integrated gradients of generated tokens: as a slow oracle and Captum have them, with passes in common."""

import sys
from pathlib import Path

import generation_oracle
import pytest
import torch

from lightning_interpret import IntegratedGradients
from lightning_interpret.functional.path import integrate

BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
SMALL = {"batch": 2, "tokens": 3, "shortest": 3, "longest": 5, "vocabulary": 300, "width": 16, "blocks": 1}


@pytest.fixture(scope="module")
def peers():
    """The benchmark's modules, which stand beside one another and in no package."""
    sys.path.insert(0, BENCHMARKS)
    try:
        import generation
        import generation_models

        yield generation, generation_models
    finally:
        sys.path.remove(BENCHMARKS)


def explained(generation, of, method, output="log_prob"):
    task, batch = generation.encoded(of)
    return method(of.model, batch, task, which="gold", output=output)


@pytest.mark.parametrize(("kind", "output"), [("gpt2", "margin"), ("llama", "log_prob"), ("bart", "log_prob")])
def test_every_token_has_the_scores_that_a_loop_over_tokens_finds(peers, kind, output):
    generation, models = peers
    of = models.prompts(kind, **SMALL)
    options = {"absent": models.UNK, "steps": 20, "output": output}
    if of.encoder_decoder:
        expected = generation_oracle.encoder_decoder(of.model, of.prompts, of.outputs, start=models.BOS, **options)
    else:
        expected = generation_oracle.causal(of.model, of.prompts, of.outputs, **options)
    fixed = IntegratedGradients(baseline="unk", rule="gauss_legendre", steps=20, tolerance=None)
    refined = IntegratedGradients(baseline="unk", tolerance=1e-3)
    for method, close in ((fixed, 1e-4), (refined, 2e-2)):
        record = explained(generation, of, method, output)
        found = generation.by_token(record, of)
        for i, token in enumerate(expected):
            assert record.target[i] == pytest.approx(token.target, abs=1e-4)
            assert record.baseline_target[i] == pytest.approx(token.baseline_target, abs=1e-4)
            got = found[token.row, token.place].double()
            torch.testing.assert_close(got, token.scores, rtol=0, atol=close)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_captum_has_the_same_scores_at_the_same_nodes(peers, kind):
    generation, models = peers
    pytest.importorskip("captum")
    from generation_peers import Captum

    of = models.prompts(kind, **SMALL)
    method = IntegratedGradients(baseline="unk", rule="gauss_legendre", steps=30, tolerance=None)
    ours, theirs = generation.by_token(explained(generation, of, method), of), Captum(of).scores(30)
    assert ours.keys() == theirs.keys()
    for key, scores in theirs.items():
        torch.testing.assert_close(ours[key], scores, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "bart"])
def test_the_tokens_of_an_example_share_forward_passes(peers, kind):
    generation, models = peers
    of, rows = models.prompts(kind, **SMALL), []
    decoder = of.model.get_decoder() if of.encoder_decoder else of.model.transformer
    table = decoder.get_input_embeddings()
    handle = table.register_forward_hook(lambda part, args, output: rows.append(len(output)))
    try:
        explained(generation, of, IntegratedGradients(baseline="unk", steps=7, tolerance=None))
    finally:
        handle.remove()
    # 9 places that are looked at and 7 nodes, of 2 examples and not of 6 tokens; with what is read at x and at x'
    assert 2 * (9 + 7) < sum(rows) < 2 * (9 + 7) + 20


@pytest.mark.parametrize("rule", ["fejer", "midpoint"])
def test_rows_that_share_points_have_the_integrals_of_their_own(rule):
    torch.manual_seed(0)
    weight, asked = torch.randn(5, 4, dtype=torch.float64), []
    example, x = torch.tensor([0, 0, 1, 0, 1]), torch.randn(2, 4, dtype=torch.float64)

    def score(points, rows, at=None):
        asked.append((len(points), len(rows)))
        points = points if at is None else points[at]
        return torch.tanh(3 * (points * weight[rows]).sum(dim=1)) * (points[:, 0] - 2) ** 2

    inputs, baselines = x[example], torch.zeros(5, 4, dtype=torch.float64)
    ends = {"target": score(inputs, torch.arange(5)), "baseline_target": score(baselines, torch.arange(5))}
    if rule == "fejer":
        options = {"tolerance": 1e-6, "steps": 8, "max_steps": 500}
    else:
        options = {"tolerance": None, "steps": 20}
    alone = integrate(score, inputs, baselines, rule=rule, **ends, **options)
    asked.clear()
    shared = integrate(score, inputs, baselines, rule=rule, example=example, chunk=7, **ends, **options)
    close = 1e-5 if rule == "fejer" else 1e-12
    torch.testing.assert_close(shared.contributions, alone.contributions, rtol=0, atol=close)
    assert sum(points for points, _ in asked) < sum(rows for _, rows in asked)
    assert max(points for points, _ in asked) <= 7
