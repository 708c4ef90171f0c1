import pytest
import torch
from torch import nn
from torch.func import functional_call
from transformers.pytorch_utils import Conv1D

from lightning_interpret.functional.influence.blocks import find_blocks
from lightning_interpret.functional.influence.curvature import (
    add_ggn,
    add_ggn_product,
    ggn_trace,
    hessian,
    without_example,
)
from lightning_interpret.functional.influence.gradients import Uses, products, recording
from lightning_interpret.functional.influence.outputs import softmax_roots
from lightning_interpret.functional.influence.parameters import Parameters
from lightning_interpret.functional.scope import explaining


class Tokens(nn.Module):
    """Every kind of block; `mix` is used twice, and `again` shares the weight of `mix` if tied."""

    def __init__(self, tied=False):
        super().__init__()
        self.embedding, self.norm = nn.Embedding(7, 4, padding_idx=0), nn.LayerNorm(4)
        self.mix, self.again, self.wide = nn.Linear(4, 4), nn.Linear(4, 4), Conv1D(5, 4)
        self.head = nn.Linear(5, 3)
        if tied:
            self.again.weight = self.mix.weight

    def forward(self, ids):
        hidden = torch.tanh(self.mix(self.norm(self.embedding(ids))))
        hidden = torch.tanh(self.again(torch.tanh(self.mix(hidden))))
        return self.head(torch.tanh(self.wide(hidden)).mean(dim=1))


def tokens(tied=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokens(tied).double().eval(), torch.randint(0, 7, (5, 3))


def mlp():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5, bias=False), nn.Tanh(), nn.Linear(5, 3))
        return model.double(), torch.randn(8, 4, dtype=torch.float64)


def recorded(model, x, layers="all"):
    """Parameters, and the uses of each root; called inside the explaining scope."""
    blocks = find_blocks(model, layers)
    with recording(blocks, len(x)) as record:
        logits = model(x)
        roots = [record.gradients((logits * r).sum(), retain_graph=True) for r in softmax_roots(logits.detach())]
    return Parameters(blocks), [[Uses(each.block, each.inputs, each.outputs) for each in uses] for uses in roots]


def oracle(model, parameters, x):
    """Σ_b Jᵀ (diag p − p pᵀ) J, with J by autograd in the parameters as one vector."""
    total = torch.zeros(parameters.size, parameters.size, dtype=torch.float64)
    for one in x.split(1):
        call = lambda vector, one=one: functional_call(model, parameters.tensors(model, vector), (one,))[0]  # noqa: E731
        jacobian = torch.autograd.functional.jacobian(call, parameters.current())
        p = model(one)[0].softmax(dim=0).detach()
        total += jacobian.T @ (p.diag() - p[:, None] * p) @ jacobian
    return total


@pytest.mark.parametrize(
    ("made", "layers"),
    [
        (mlp, "all"),
        (mlp, ["0", "4"]),
        (tokens, "all"),
        (tokens, ["wide", "embedding"]),
        (lambda: tokens(tied=True), "all"),
    ],
    ids=["mlp", "some layers", "every kind", "some kinds", "tied"],
)
def test_the_gauss_newton_matrix_is_j_h_j_whatever_the_layers_are(made, layers):
    model, x = made()
    with explaining(model):
        parameters, roots = recorded(model, x, layers)
        expected = oracle(model, parameters, x)
        total = torch.zeros_like(expected)
        add_ggn(total, parameters, roots)
        assert torch.allclose(total, expected, atol=1e-12)
        vectors = torch.randn(3, parameters.size, dtype=torch.float64)
        total = torch.ones_like(vectors)
        add_ggn_product(total, parameters, roots, vectors)
        assert torch.allclose(total, 1 + vectors @ expected, atol=1e-11)
        assert torch.allclose(ggn_trace(roots), expected.trace(), atol=1e-12)


def test_a_shared_parameter_stands_once_and_its_gradient_is_the_sum():
    model, x = tokens(tied=True)
    gradient = torch.autograd.grad(model(x).square().sum(), model.mix.weight)[0]
    with explaining(model):
        blocks = find_blocks(model)
        with recording(blocks, len(x)) as record:
            uses = record.gradients(model(x).square().sum())
        parameters = Parameters(blocks)
        assert parameters.size == sum(each.numel() for each in model.parameters())
        vectors = parameters.of(uses)
        assert torch.allclose(parameters.tensors(model, vectors.sum(dim=0))["mix.weight"], gradient)
        query = torch.randn(2, parameters.size, dtype=torch.float64)
        assert torch.allclose(products(parameters.split(query), uses), query @ vectors.T)


def test_of_logits_that_are_linear_in_the_parameters_it_is_the_hessian():
    _, x = mlp()
    labels, model = torch.arange(8) % 3, nn.Linear(4, 3).double()
    with explaining(model):
        parameters, roots = recorded(model, x)
        total = torch.zeros(parameters.size, parameters.size, dtype=torch.float64)
        add_ggn(total, parameters, roots)
        point = parameters.current().requires_grad_()
        loss = nn.functional.cross_entropy(
            functional_call(model, parameters.tensors(model, point), (x,)), labels, reduction="sum"
        )
        (gradient,) = torch.autograd.grad(loss, point, create_graph=True)
        assert torch.allclose(hessian(gradient, point, at_once=4), total, atol=1e-12)
        assert torch.equal(hessian(point.detach(), point), torch.zeros_like(total))  # of what has no curvature at all


def test_without_an_example_is_the_solution_with_its_curvature_taken_away():
    generator = torch.Generator().manual_seed(0)
    roots, gradients, queries = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in [(2, 6, 5), (6, 5), (3, 5)]
    )
    curvature = torch.einsum("rbp,rbq->pq", roots, roots) / 6 + 0.1 * torch.eye(5, dtype=torch.float64)
    solved = torch.linalg.solve(curvature, queries.T).T
    solved_roots = torch.linalg.solve(curvature, roots.mT).mT
    more = without_example(solved, gradients, roots, solved_roots, 6)
    for b in range(6):
        left = curvature - roots[:, b].T @ roots[:, b] / 6
        expected = queries @ torch.linalg.solve(left, gradients[b])
        assert torch.allclose(solved @ gradients[b] + more[:, b], expected)
