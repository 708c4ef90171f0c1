"""Influence in tags, answers, generated tokens, numbers and labels: roots of their losses, and scores by curvature."""

import pytest
import torch
from several_tasks import HEAD, KINDS, made, parts_of
from torch.func import functional_call

from lightning_interpret import (
    ConjugateGradientInfluence,
    EkfacInfluence,
    ExactInfluence,
    GradientSimilarity,
    LissaInfluence,
    SaliencyInfluence,
)
from lightning_interpret.functional.influence.outputs import placed_roots

DOT = GradientSimilarity("dot")


def hessian_of(task, module, batch):
    """The Hessian of the sum of losses in the logits, by autograd, ``(N, N)``, and the logits."""
    logits = task.logits(module, batch).detach()
    again = type("Fixed", (type(task),), {"logits": lambda self, module, batch: self.given_logits})
    fixed = again.__new__(again)
    fixed.__dict__.update(task.__dict__)

    def total(flat):
        fixed.given_logits = flat.reshape(logits.shape)
        return fixed.losses(module, batch).sum()

    return torch.autograd.functional.hessian(total, logits.flatten()), logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_roots_are_those_of_the_hessian_of_each_loss(kind):
    module, task, batch = made(kind)
    batch = task.take(batch, torch.tensor([1, 2]))
    wanted, logits = hessian_of(task, module, batch)
    roots = torch.stack([root.flatten() for root in task.roots(logits, batch)])
    assert all(root.shape == logits.shape for root in task.roots(logits, batch))
    blocks = torch.zeros_like(wanted)  # of each example: an example's loss has no part in another's logits
    size = logits[0].numel()
    for b in range(len(logits)):
        own = slice(b * size, (b + 1) * size)
        blocks[own, own] = roots[:, own].T @ roots[:, own]
    torch.testing.assert_close(blocks, wanted, rtol=1e-9, atol=1e-12)


def test_drawn_roots_are_those_of_the_hessian_in_expectation():
    logits = torch.tensor([[[0.3, -1.0, 0.2], [2.0, 0.1, 0.5], [0.0, 0.7, -0.4]]], dtype=torch.float64)
    there = torch.tensor([[True, False, True]])
    wanted, drawn = (
        sum(torch.outer(*2 * [root.flatten()]) for root in placed_roots(logits, there, samples))
        for samples in (None, 4000)
    )
    assert float((drawn - wanted).norm() / wanted.norm()) < 0.05
    once = [next(placed_roots(logits, there, 3, torch.Generator().manual_seed(7))) for _ in range(2)]
    assert torch.equal(*once)


def oracle(task, module, batch, name, damping):
    """∇ℓ (G + damping)⁻¹ ∇ℓᵀ / n of one layer with autograd's Jacobian and Hessian, ``(n, n)``."""
    part = module.get_submodule(name)
    tensors = {f"{name}.{key}": value.detach() for key, value in part.named_parameters()}
    shapes = {key: value.shape for key, value in tensors.items()}
    flat = torch.cat([value.flatten() for value in tensors.values()])

    class Run(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.module = module

        def forward(self, what, rows):
            return getattr(task, what)(self.module, rows)

    def run(what, rows):
        def of(vector):
            sizes = vector.split([shape.numel() for shape in shapes.values()])
            values = {f"module.{k}": v.reshape(s) for (k, s), v in zip(shapes.items(), sizes, strict=True)}
            return functional_call(Run(), values, (what, rows))

        return of

    matrix, gradients = torch.zeros(len(flat), len(flat), dtype=flat.dtype), []
    count = len(batch["example_id"])
    for i in range(count):
        one = task.take(batch, torch.tensor([i]))
        jacobian = torch.autograd.functional.jacobian(run("logits", one), flat).reshape(-1, len(flat))
        matrix += jacobian.T @ hessian_of(task, module, one)[0] @ jacobian / count
        gradients.append(torch.autograd.functional.jacobian(run("losses", one), flat)[0])
    gradients = torch.stack(gradients)
    inverse = torch.linalg.inv(matrix + damping * torch.eye(len(flat), dtype=flat.dtype))
    return gradients @ inverse @ gradients.T / count


@pytest.mark.parametrize("kind", KINDS)
def test_exact_scores_are_those_of_autograds_jacobian_and_hessian(kind):
    module, task, batch = made(kind)
    name = HEAD[kind]
    wanted = oracle(task, module, batch, name, 0.1)
    options = {"layers": [name], "damping": 0.1, "label_samples": "all"}
    for method in (ExactInfluence(**options), ConjugateGradientInfluence(**options, tolerance=1e-10)):
        ids, found = method.fit(module, parts_of(task, batch), task).matrix(batch)
        assert ids.tolist() == batch["example_id"].tolist()
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)


def test_labels_are_drawn_where_there_are_too_many_roots_and_the_record_says_so():
    module, task, batch = made("continuing")
    for method in (ExactInfluence(layers=[HEAD["continuing"]]), EkfacInfluence(), LissaInfluence(depth=3)):
        stated = method.fit(module, parts_of(task, batch), task, weight_decay=0.1).approximation
        assert (stated.curvature, stated.samples, stated.seed) == ("fisher", 4, 0), method.name
    few = made("answering")
    stated = ConjugateGradientInfluence().fit(few[0], parts_of(few[1], few[2]), few[1]).approximation
    assert (stated.curvature, stated.samples) == ("ggn", None)
    with pytest.raises(ValueError, match=r"leverage_correction=True.*label_samples='all'"):
        ExactInfluence(layers=[HEAD["continuing"]], leverage_correction=True).fit(module, parts_of(task, batch), task)


@pytest.mark.parametrize("kind", KINDS)
def test_ekfac_scores_of_examples_on_themselves_are_their_self_influence(kind):
    module, task, batch = made(kind)
    fitted = EkfacInfluence(damping=0.1).fit(module, parts_of(task, batch), task)
    scores = fitted.matrix(batch)[1]
    own = fitted.self_influence()[1]
    torch.testing.assert_close(scores.diagonal(), own)
    assert bool((own > 0).all())


def test_a_saliency_is_of_one_target_an_example():
    for kind, which in (("measuring", "stars"), ("labelling", "sad"), ("answering", "predicted")):
        module, task, batch = made(kind)
        fitted = SaliencyInfluence(which=which, influence=DOT).fit(module, parts_of(task, batch), task)
        assert [row.example_id for row in fitted.scores(batch)] == batch["example_id"].tolist()
    module, task, batch = made("measuring")
    fitted = SaliencyInfluence(influence=DOT).fit(module, parts_of(task, batch), task)
    with pytest.raises(ValueError, match="`which='predicted'` of Regression means several"):
        fitted.scores(batch)


def test_a_batch_is_split_where_the_roots_of_its_vocabulary_would_not_fit(monkeypatch):
    module, task, batch = made("continuing")
    sizes, roots = [], task.roots

    def watched(logits, *given):
        sizes.append(len(logits))
        return roots(logits, *given)

    monkeypatch.setattr(task, "roots", watched)
    method = EkfacInfluence(layers=[HEAD["continuing"]])
    whole = method.fit(module, [batch], task)
    assert set(sizes) == {4}
    sizes.clear()
    monkeypatch.setattr(
        "lightning_interpret.methods.influence.roots._AT_ONCE", 4 * task.logits(module, batch)[0].numel()
    )
    split = method.fit(module, [batch], task)
    assert set(sizes) == {1}
    assert split.approximation.examples == whole.approximation.examples == 4
    with pytest.raises(ValueError, match=r"Where the loss of CausalGeneration is, its batch says: ask `roots"):
        task.loss_roots(task.logits(module, batch))
