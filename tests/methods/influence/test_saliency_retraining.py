"""The influence on a saliency beside what it foresees: each example removed, the model trained to its new optimum.

Everything that is trained here is a function of one vector of weights, and no code of the package: Newton's method for
all trainings at once, and the saliency of a token at each of their optima.
"""

import pytest
import torch
from tiny import VOCABULARY, Bag, BagTask, batch_of, wordpiece
from torch import nn
from torch.func import grad, hessian, vmap
from torch.nn import functional as F

from lightning_interpret import ExactInfluence, SaliencyInfluence

EXAMPLES = 80
WORDS = "the play great a film not bad dull movie good he is very and".split()  # noqa: SIM905
QUERIES = ["a very good film", "the play was not great", "dull and bad", "he is good and the movie is bad"]


class Linear(nn.Module):
    """Embeddings, their mean, and a softmax regression on it."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(VOCABULARY, 6), nn.Linear(6, 2)
        with torch.no_grad():
            for p in self.parameters():
                p.normal_(generator=torch.Generator().manual_seed(0))

    def forward(self, ids, mask):
        mask = mask.unsqueeze(-1).to(self.head.weight.dtype)
        return self.head((self.embedding(ids) * mask).sum(dim=1) / mask.sum(dim=1))


def training_data(wrong):
    """Texts whose label is what most of their words say, a share of them another."""
    generator = torch.Generator().manual_seed(0)
    found, labels = [], []
    for _ in range(EXAMPLES):
        words = [WORDS[i] for i in torch.randint(len(WORDS), (6,), generator=generator).tolist()]
        says = sum(word in ("great", "good") for word in words) - sum(word in ("bad", "dull") for word in words)
        flipped = float(torch.rand((), generator=generator)) < wrong
        found.append(" ".join(words))
        labels.append(int((says >= 0) != flipped))
    return dict(batch_of(wordpiece(), found, labels=labels)) | {"example_id": torch.arange(EXAMPLES)}


class Weights:
    """A model as a function of its weights as one vector, and its optimum without some of the examples."""

    def __init__(self, model, batch, decay):
        self.model, self.batch, self.decay = model, batch, decay
        self.names = [name for name, p in model.named_parameters() if p.requires_grad]
        self.shapes = [model.get_parameter(name).shape for name in self.names]
        counts = (F.one_hot(batch["input_ids"], VOCABULARY) * batch["attention_mask"][:, :, None]).sum(dim=1).double()
        self.shares = counts / counts.sum(dim=1, keepdim=True)

    def split(self, theta):
        parts = theta.split([shape.numel() for shape in self.shapes])
        found = {name: part.reshape(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)}
        return {"embedding.weight": self.model.embedding.weight.detach()} | found

    def logits(self, p, features, shares):
        """Return the logits of word embeddings ``(T, d)`` with the share that each has in a text, ``(..., T)``."""
        if "hidden.weight" not in p:
            return shares @ features @ p["head.weight"].T + p["head.bias"]
        hidden = torch.tanh(shares @ torch.tanh(features) @ p["hidden.weight"].T + p["hidden.bias"])
        return hidden @ p["head.weight"].T + p["head.bias"]

    def objective(self, theta, kept):
        p = self.split(theta)
        logits = self.logits(p, p["embedding.weight"], self.shares)
        losses = F.cross_entropy(logits, self.batch["labels"], reduction="none")
        return (kept * losses).sum() / EXAMPLES + self.decay / 2 * theta.square().sum()

    def near(self, theta, kept):
        """Return weights close to an optimum, by L-BFGS."""
        theta = theta.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([theta], max_iter=1000, tolerance_change=1e-14, line_search_fn="strong_wolfe")

        def closure():
            value = self.objective(theta, kept)
            (theta.grad,) = torch.autograd.grad(value, theta)
            return value

        optimizer.step(closure)
        return theta.detach()

    def optima(self, theta, kept):
        """Return the optima near ``theta`` (S, P) for the examples kept (S, n), by Newton's method, always downhill."""
        slope, curvature, objective = (vmap(each(self.objective)) for each in (grad, hessian, lambda same: same))
        lengths, theta = 0.5 ** torch.arange(5, dtype=torch.float64), theta.clone()
        while len(rows := (slope(theta, kept).abs().amax(dim=1) > 1e-12).nonzero().flatten()):
            here, given = theta[rows], kept[rows]
            values, vectors = torch.linalg.eigh(curvature(here, given))
            along = (vectors.mT @ slope(here, given)[:, :, None]) / values.abs()[:, :, None]
            steps = here - lengths[:, None, None] * (vectors @ along)[:, :, 0]
            best = torch.stack([objective(each, given) for each in steps]).argmin(dim=0)
            theta[rows] = steps[best, torch.arange(len(rows))]
        assert float(torch.linalg.eigvalsh(curvature(theta, kept)).min()) > 0
        return theta

    def saliency(self, theta, ids, place, target, kind):
        p = self.split(theta)
        features = p["embedding.weight"][ids]
        shares = features.new_full((len(features),), 1 / len(features))
        slopes = grad(lambda values: self.logits(p, values, shares)[target])(features)[place]
        return (slopes * features[place]).sum() if kind == "gradient_times_input" else slopes.norm()


def trained(model, decay, wrong, *, fixed):
    """Return the model at its optimum, and the optima without each example and without a hundredth of each."""
    model.double().embedding.weight.requires_grad_(not fixed)
    weights = Weights(model, training_data(wrong), decay)
    start = torch.cat([model.get_parameter(name).detach().flatten() for name in weights.names])
    everything = torch.ones(1, EXAMPLES, dtype=torch.float64)
    theta = weights.optima(weights.near(start, everything[0])[None], everything)
    with torch.no_grad():
        for name, value in weights.split(theta[0]).items():
            model.get_parameter(name).copy_(value)
    without = torch.eye(EXAMPLES, dtype=torch.float64)
    return weights, theta[0], *(weights.optima(theta.expand(EXAMPLES, -1), 1 - share * without) for share in (1, 0.01))


CASES = {
    "a softmax regression on fixed embeddings": lambda: trained(Linear(), 0.01, 0.125, fixed=True),
    "a tanh head on fixed embeddings": lambda: trained(Bag(nn.Tanh(), classes=2), 0.01, 0.125, fixed=True),
    "a tanh head and its embeddings": lambda: trained(Bag(nn.Tanh(), size=3, classes=2), 0.008, 0.0, fixed=False),
}


@pytest.fixture(scope="module", params=CASES)
def retrained(request):
    return CASES[request.param]()


def agreement(predicted, actual):
    """Return Pearson's correlation and the slope of a line through the origin."""
    pearson = torch.corrcoef(torch.stack([predicted.flatten(), actual.flatten()]))[0, 1]
    return float(pearson), float((predicted * actual).sum() / predicted.square().sum())


@pytest.mark.parametrize("kind", ["gradient_times_input", "l2"])
def test_it_foresees_how_the_saliency_changes_when_an_example_is_removed(retrained, kind):
    weights, theta, without, without_a_hundredth = retrained
    model, task = weights.model, BagTask(wordpiece())
    influence = ExactInfluence(layers="all", curvature="hessian")
    method = SaliencyInfluence(saliency=kind, influence=influence, top_tokens=2)
    fitted = method.fit(model, [weights.batch], task, weight_decay=weights.decay)
    assert (fitted.approximation.coverage, fitted.approximation.damping) == (1.0, 0.0)
    predicted, removed, lightened = [], [], []
    for text in QUERIES:
        batch = dict(batch_of(wordpiece(), [text], labels=[0]))
        target = int(model(batch["input_ids"], batch["attention_mask"]).argmax())
        predicted += fitted.matrix(batch)[1]
        for row in fitted.scores(batch):
            place = int(row.notes[0].split("number ")[1].split(")")[0]) + 1  # after [CLS]
            given = (batch["input_ids"][0], place, target, kind)
            before = weights.saliency(theta, *given)
            for thetas, found in ((without, removed), (without_a_hundredth, lightened)):
                found.append(vmap(lambda each, given=given: weights.saliency(each, *given))(thetas) - before)
    predicted, removed, lightened = map(torch.stack, (predicted, removed, lightened))
    pearson, slope = agreement(predicted, 100 * lightened)
    assert pearson > 0.9999
    assert abs(slope - 1) < 0.01
    pearson, slope = agreement(predicted, removed)
    print(f"pearson {pearson:.4f}, slope {slope:.3f}")
    assert pearson > 0.95
    assert (
        0.95 < slope < (1.25 if "embedding.weight" not in weights.names else 1.6)
    )  # an example has leverage of its own
