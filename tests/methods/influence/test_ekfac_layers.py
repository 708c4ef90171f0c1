"""EK-FAC of transformers, convolutions and tied tables, against matrices made one example at a time by autograd."""

import pytest
import torch
from digits import DigitsTask, digits, split
from purity import assert_same, state_of
from tiny import batch_of, classifier, wordpiece
from torch import nn

from lightning_interpret import SequenceClassification
from lightning_interpret.methods.influence import EkfacInfluence

TEXTS = (
    "the player was great .",
    "he is unaffable and a very good film was not dull",
    "bad",
    "a dull movie and a bad play",
    "the film was good",
    "not great",
)
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
DAMPING = 1e-3


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]).double())[0, 1])


@pytest.fixture(scope="module")
def bert():
    """A tiny BERT in double precision, its task, its batch, and its scores by a loop over examples."""
    module = classifier("bert", dtype=torch.float64)
    module.classifier.bias.requires_grad_(False)  # what does not train is not covered
    task = SequenceClassification(wordpiece(), ["bad", "dull", "good"])
    batch = {**batch_of(task.tokenizer, TEXTS, labels=[2, 0, 0, 1, 2, 1]), "example_id": torch.arange(10, 16)}
    return module, task, batch, oracle(module, task, [task.take(batch, torch.tensor([i])) for i in range(len(TEXTS))])


def oracle(module, task, singles):
    """All scores between texts: autograd's gradients of weights, and hooks on one text at a time, layer by layer."""
    singles = [
        {k: v[:, : int(one["attention_mask"].sum())] if k in TOKENS else v for k, v in one.items()} for one in singles
    ]
    layers = {
        name: part for name, part in module.named_modules() if isinstance(part, nn.Linear | nn.LayerNorm | nn.Embedding)
    }
    kept, reads, backs, squares, own = {}, {}, {}, {}, {}

    def keep(name):
        def hook(part, args, output):
            kept[name] = (args[0], output if output.requires_grad else output.requires_grad_())

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in layers.items()]
    for one in singles:
        logits = task.logits(module, one)
        calls = dict(kept)
        outputs = [calls[name][1] for name in layers]
        for root in task.loss_roots(logits.detach()):
            scalar = (logits * root).sum()
            back = torch.autograd.grad(scalar, outputs, retain_graph=True, allow_unused=True)
            for name, grad in zip(layers, back, strict=True):
                grad = torch.zeros_like(calls[name][1]) if grad is None else grad
                backs.setdefault(name, []).append(grad.reshape(-1, grad.shape[-1]))
                squares.setdefault(name, []).append(weights_of(layers[name], scalar))
        for name, part in layers.items():
            every = torch.stack([each.abs() for each in backs[name][-3:]]).sum(dim=(0, 2)) > 0
            read = calls[name][0].detach()
            if isinstance(part, nn.Embedding):
                read = nn.functional.one_hot(read, part.num_embeddings).double()
            read = read.reshape(-1, read.shape[-1])
            if isinstance(part, nn.Linear) and part.bias.requires_grad:
                read = torch.cat([read, torch.ones(len(read), 1)], dim=1)
            reads.setdefault(name, []).append(read[every])
            own.setdefault(name, []).append(weights_of(part, task.losses(module, one).sum()))
            layers[name] = part
    for handle in handles:
        handle.remove()
    total = 0
    for name, part in layers.items():
        gradients, roots = torch.stack(own[name]), torch.stack(squares[name])
        basis = torch.eye(gradients.shape[1], dtype=torch.float64)
        if not isinstance(part, nn.LayerNorm):
            a, s = torch.cat(reads[name]), torch.cat(backs[name])
            columns = torch.linalg.eigh(a.T @ a)[1].contiguous()
            rows = torch.linalg.eigh(s.T @ s)[1].contiguous()
            one = torch.eye(a.shape[1], dtype=torch.float64)
            basis = torch.kron(one, rows) if isinstance(part, nn.Embedding) else torch.kron(rows, columns)
        values = (roots @ basis).square().sum(dim=0) / len(singles)
        turned = gradients @ basis
        total = total + (turned / (values + DAMPING)) @ turned.T / len(singles)
    return total


def weights_of(part, scalar):
    """The gradient of a layer's parameters in the order in which a block is flat."""
    names = [name for name in ("weight", "bias") if getattr(part, name, None) is not None]
    names = [name for name in names if getattr(part, name).requires_grad]
    found = torch.autograd.grad(scalar, [getattr(part, name) for name in names], retain_graph=True, allow_unused=True)
    found = [torch.zeros_like(getattr(part, n)) if g is None else g for n, g in zip(names, found, strict=True)]
    if isinstance(part, nn.LayerNorm):
        return torch.stack(found).flatten()
    return torch.cat([each[:, None] if each.dim() == 1 else each for each in found], dim=1).flatten()


def exactly(**options):
    return EkfacInfluence(damping=DAMPING, label_samples="all", **options)


def test_every_layer_is_as_in_a_loop_over_texts(bert):
    module, task, batch, expected = bert
    fitted = exactly().fit(module, [batch], task)
    ids, scores = fitted.matrix(batch)
    assert ids.tolist() == list(range(10, 16))
    assert torch.allclose(scores, expected, rtol=1e-8, atol=1e-10 * float(expected.abs().max()))
    assert torch.allclose(fitted.self_influence()[1], expected.diag(), rtol=1e-8)
    assert any("diagonal curvature in" in note and "LayerNorm" in note for note in fitted.approximation.notes)


def test_batches_and_padding_change_nothing(bert):
    module, task, batch, expected = bert
    rows = [task.take(batch, torch.tensor(each)) for each in ([5, 0, 3], [1], [2, 4])]
    rows[2] = {k: v[:, :6] if k in TOKENS else v for k, v in rows[2].items()}  # less padding
    rows[1] = {k: nn.functional.pad(v, (0, 4)) if k in TOKENS else v for k, v in rows[1].items()}  # more
    ids, scores = exactly().fit(module, rows, task).matrix(batch)
    assert torch.allclose(scores, expected[:, ids - 10], rtol=1e-8, atol=1e-10 * float(expected.abs().max()))
    found = exactly().fit(module.float(), rows, task).matrix(batch)[1].double()
    module.double()
    assert float((found - expected[:, ids - 10]).abs().max() / expected.abs().max()) < 1e-4


class Convolutions(nn.Module):
    """Convolutions, grouped and not, and a normalisation, on images of 8 × 8."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, stride=2), nn.GroupNorm(2, 4)
        self.second, self.head = nn.Conv2d(4, 6, 2, groups=2, bias=False), nn.Linear(6, 3)

    def forward(self, pixels):
        hidden = torch.tanh(self.norm(self.first(pixels.unflatten(1, (1, 8, 8)))))
        return self.head(torch.tanh(self.second(hidden)).sum(dim=(2, 3)))


class Tied(nn.Module):
    """An embedding that is the last linear map too, of 17 ids: the intensities of pixels."""

    def __init__(self):
        super().__init__()
        self.embedding, self.middle, self.head = nn.Embedding(17, 5), nn.Linear(5, 5), nn.Linear(5, 17, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, pixels):
        return self.head(torch.tanh(self.middle(self.embedding((16 * pixels).long()))).mean(dim=1))[:, :3]


@pytest.mark.parametrize("make", [Convolutions, Tied])
def test_the_trace_is_that_of_the_exact_curvature(make):
    """A turn of the axes keeps Σ g²: of convolutions, diagonals and tied tables too."""
    torch.manual_seed(0)
    module, task, rows = make().double(), DigitsTask(), split(digits(torch.float64)[0], 6)[:2]
    rows = [{**each, "labels": each["labels"] % 3} for each in rows]
    fitted = exactly().fit(module, rows, task)
    assert fitted.approximation.coverage == 1
    expected = 0.0
    for each in rows:
        logits = task.logits(module, each)
        for root in task.loss_roots(logits.detach()):
            for scalar in (logits * root).sum(dim=1):
                found = torch.autograd.grad(scalar, list(module.parameters()), retain_graph=True)
                expected += sum(float(grad.square().sum()) for grad in found) / 12
    assert sum(float(each.values.sum()) for each in fitted.curvatures.values()) == pytest.approx(expected, rel=1e-10)
    _, scores = fitted.matrix(rows[0])
    assert torch.allclose(scores.diagonal(), fitted.self_influence()[1][:6], rtol=1e-9)


def test_the_sum_of_queries_scores_the_sum(bert):
    module, task, batch, expected = bert
    row = exactly().fit(module, [batch], task).scores(iter([batch, batch]), k=6, aggregate=True)[0]
    found = {each.example_id: each.score for each in row.helpful + row.harmful}
    assert [found[i] for i in range(10, 16)] == pytest.approx((2 * expected.sum(dim=0)).tolist(), rel=1e-7)
    assert row.queries == 12


def test_low_ranks_are_exact_when_they_are_full_and_near_before(bert):
    module, task, batch, expected = bert
    assert torch.allclose(exactly(query_rank=64).fit(module, [batch], task).matrix(batch)[1], expected, rtol=1e-8)
    cut = exactly(query_rank=5).fit(module, [batch], task)
    found = cut.matrix(batch)[1]
    assert 0.95 < correlation(found, expected) < 1 - 1e-9
    assert "preconditioned queries cut to rank 5" in cut.approximation.notes


def test_the_module_is_left_as_it_was(bert):
    module, task, batch, _ = bert
    module.train()
    before = state_of(module)
    fitted = EkfacInfluence(label_samples=2).fit(module, [batch], task)
    fitted.scores(batch, k=2)
    fitted.self_influence()
    assert_same(before, state_of(module), objects=True)
    module.eval()
