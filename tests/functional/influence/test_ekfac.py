"""The curvature of a block against matrices written out, in double precision."""

import pytest
import torch
from torch import nn

from lightning_interpret.functional.influence import ekfac
from lightning_interpret.functional.influence.blocks import Lookup, Outer, Rows, Scale
from lightning_interpret.functional.influence.ekfac import (
    KroneckerCurvature,
    LookupCurvature,
    LowRank,
    Side,
    curvature_of,
    trimmed,
)
from lightning_interpret.functional.influence.gradients import Uses
from lightning_interpret.functional.influence.outer import outer_parts

BATCHES, EXAMPLES, ROOTS, DAMPING = 3, 4, 2, 0.05


def block(kind):
    made = {"linear": nn.Linear(5, 3), "embedding": nn.Embedding(7, 3, padding_idx=0), "norm": nn.LayerNorm(5)}
    module = made[kind].double()
    return {"linear": lambda: Outer("x", module, 5, 3), "embedding": lambda: Lookup("x", module)}.get(
        kind, lambda: Scale("x", module)
    )()


def data(kind, places, seed=0):
    """Batches, each a list of uses, one a root: the same inputs, other gradients; the last place of some is padding."""
    made, generator = block(kind), torch.Generator().manual_seed(seed)
    found = []
    for _ in range(BATCHES):
        if kind == "embedding":
            read = torch.randint(1, 6, (EXAMPLES, places), generator=generator)
        else:
            read = torch.randn(EXAMPLES, places, 5, generator=generator, dtype=torch.float64)
        outputs = torch.randn(ROOTS, EXAMPLES, places, made.shape[-1 if kind != "linear" else 0], generator=generator)
        if places > 1:
            outputs[:, ::2, -1] = 0
            if kind == "embedding":
                read[::2, -1] = 0
        found.append([Uses(made, made.inputs(read), each.double()) for each in outputs])
    return made, found


def measured(kind, places, corrected=True):
    made, found = data(kind, places)
    curvature = curvature_of(made)
    for roots in found:
        curvature.gather(roots)
    if curvature.diagonalise(BATCHES * EXAMPLES, corrected=corrected):
        for roots in found:
            curvature.measure(roots)
        curvature.close(BATCHES * EXAMPLES)
    return made, found, curvature


def dense(kind, found, corrected):
    """The curvature as a matrix over the flat gradient, by loops over examples, roots and places."""
    count = BATCHES * EXAMPLES
    gradients, a, s, reads = [], 0, 0, 0
    for roots in found:
        for b in range(EXAMPLES):
            for uses in roots:
                gradient = 0
                for x, d in zip(uses.inputs[b], uses.outputs[b], strict=True):
                    x = nn.functional.one_hot(x, 7).double() if kind == "embedding" else x
                    if kind == "norm":
                        gradient = gradient + torch.stack([d * x, d])
                    else:
                        gradient = gradient + (torch.outer(x, d) if kind == "embedding" else torch.outer(d, x))
                        s = s + torch.outer(d, d) / count
                gradients.append(gradient.flatten())
            if kind != "norm":
                for place in range(roots[0].inputs.shape[1]):
                    if any(uses.outputs[b, place].any() for uses in roots):
                        x = roots[0].inputs[b, place]
                        x = nn.functional.one_hot(x, 7).double() if kind == "embedding" else x
                        a, reads = a + torch.outer(x, x), reads + 1
    fisher = torch.stack(gradients).T @ torch.stack(gradients) / count
    if kind == "norm":
        return fisher.diag().diag()
    a = a / reads
    first, second = (a, s) if kind == "embedding" else (s, a)
    if not corrected:
        return torch.kron(first, second)
    vectors = [
        torch.eye(7).double() if kind == "embedding" else torch.linalg.eigh(first)[1],
        torch.linalg.eigh(second)[1],
    ]
    basis = torch.kron(*(each.contiguous() for each in vectors))
    return basis @ (basis.T @ fisher @ basis).diag().diag() @ basis.T


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("places", [1, 4])
@pytest.mark.parametrize("kind", ["linear", "embedding", "norm"])
def test_the_inverse_is_that_of_the_matrix_written_out(kind, places, corrected):
    made, found, curvature = measured(kind, places, corrected)
    matrix = dense(kind, found, corrected)
    matrix = matrix + DAMPING * torch.eye(len(matrix)).double()
    uses = data(kind, places, seed=1)[1][0][0]
    gradient = uses.gradient()
    flat = made.flat(gradient)
    expected = torch.linalg.solve(matrix, flat.T).T
    assert torch.allclose(made.flat(curvature.preconditioned(gradient, DAMPING)), expected, rtol=1e-10, atol=1e-12)
    assert torch.allclose(curvature.own(uses, DAMPING), (flat * expected).sum(dim=1), rtol=1e-10)
    whole = flat.reshape(len(flat), *made.shape)
    assert torch.allclose(made.flat(curvature.preconditioned(whole, DAMPING)), expected, rtol=1e-10, atol=1e-12)


def test_gradients_of_an_embedding_stay_rows():
    _, _, curvature = measured("embedding", 4)
    assert isinstance(curvature, LookupCurvature)
    assert isinstance(curvature.preconditioned(Rows(torch.tensor([2]), torch.ones(1, 1, 3).double()), 0.1), Rows)


def test_what_has_neither_curvature_nor_damping_has_no_influence():
    _, _, curvature = measured("embedding", 4)
    never_read = Rows(torch.tensor([6]), torch.ones(1, 1, 3).double())
    assert not curvature.preconditioned(never_read, 0.0).values.any()


def test_places_without_a_gradient_change_nothing():
    made, found = data("linear", 4)
    wider = [
        [
            Uses(
                made,
                torch.cat([u.inputs, 9 * torch.ones_like(u.inputs)], 1),
                nn.functional.pad(u.outputs, (0, 0, 0, 4)),
            )
            for u in roots
        ]
        for roots in found
    ]
    a, b = KroneckerCurvature(made), KroneckerCurvature(made)
    for curvature, batches in ((a, found), (b, wider)):
        for roots in batches:
            curvature.gather(roots)
        curvature.diagonalise(12, corrected=False)
    assert torch.allclose(a.values, b.values, rtol=1e-12)
    assert trimmed(wider[0][0]).inputs.shape[1] == 4


def test_a_side_too_long_for_a_matrix_keeps_its_own_axes(monkeypatch):
    monkeypatch.setattr(ekfac, "WIDEST", 4)
    vectors = torch.randn(20, 5, generator=torch.Generator().manual_seed(0)).double()
    side = Side(vectors, 5)
    side.add(vectors)
    assert torch.allclose(side.diagonalise(20), vectors.square().mean(dim=0))
    assert torch.equal(side.rotated(vectors), vectors)
    assert KroneckerCurvature(block("linear")).wide


def test_a_low_rank_that_is_full_is_exact_and_a_smaller_one_is_the_best_there_is():
    _, found = data("linear", 4)
    queries = torch.randn(6, 3, 6, generator=torch.Generator().manual_seed(3)).double()
    uses = found[0][0]
    assert torch.allclose(LowRank.of(queries, 3, 0).scores(uses), uses.scores(queries), rtol=1e-10, atol=1e-12)
    values = torch.linalg.svdvals(queries)
    cut = LowRank.of(queries, 2, 0)
    best = values[:, 2:].square().sum(dim=1).sqrt()
    error = (cut.left @ cut.right - queries).flatten(1).norm(dim=1)
    assert bool((error < 1.001 * best).all())
    assert bool((error > best * (1 - 1e-9)).all())


def test_scores_in_parts_are_scores_of_whole_gradients():
    made = Outer("x", nn.Linear(700, 300), 700, 300)
    generator = torch.Generator().manual_seed(0)
    inputs, outputs = torch.randn(8, 5, 701, generator=generator), torch.randn(8, 5, 300, generator=generator)
    queries = torch.randn(9, 300, 701, generator=generator)
    parts = list(outer_parts(inputs, outputs))
    assert len(parts) > 1
    whole = made.gradient(inputs, outputs)
    assert torch.allclose(torch.cat([part for _, part in parts], dim=1), whole)
    expected = queries.flatten(1) @ whole.flatten(1).T
    assert torch.allclose(made.scores(queries, inputs, outputs), expected, rtol=1e-4, atol=1e-2)
