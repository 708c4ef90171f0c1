"""The same scores as Captum's TCAV where both compute the same: vectors of a layer that gives one vector an example."""

import captum.concept
import pytest
import torch
from planted_concepts import UNUSED, USED, Planted, PlantedTask, collate, sets, texts
from torch import nn

from lightning_interpret.functional.concept_vectors import directional_derivatives
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts import ConceptActivationVectors
from lightning_interpret.methods.concepts.features import LayerReader


class Layered(nn.Module):
    """A :class:`Planted` whose mean is a layer, called with ids alone."""

    def __init__(self):
        super().__init__()
        self.planted, self.pooled = Planted(), nn.Linear(16, 16)

    def forward(self, ids):
        there = (ids != 0).unsqueeze(-1)
        mean = self.pooled((self.planted.embedding(ids) * there).sum(dim=1) / there.sum(dim=1))
        a, b, c, d = (mean @ self.planted.directions[:4].T).unbind(dim=1)
        return torch.stack([torch.tanh(a) * b, torch.sin(3 * c) + d * d], dim=1)


class Given(captum.concept.Classifier):
    """A classifier whose vectors are known already: those of ours."""

    vectors = None

    def __init__(self):
        pass

    def train_and_eval(self, dataloader, **kwargs):
        return {"accs": torch.tensor(1.0)}

    def weights(self):
        return self.vectors

    def classes(self):
        return [0, 1]


@pytest.fixture(scope="module")
def module():
    torch.manual_seed(0)
    return Layered().eval()


def test_signs_and_scores_are_captums(module, tmp_path):
    concepts = {"used": texts(40, USED, seed=1), "unused": texts(40, UNUSED, seed=2)}
    method = ConceptActivationVectors("pooled", examples=30, vectors=3, random_concepts=12, which="predicted")
    task = PlantedTask()
    task.logits = lambda module, batch: module(batch["input_ids"])
    fitted = method.fit(module, sets(concepts), task)
    ids = texts(50, seed=5)
    layer = fitted.layers["pooled"]
    record = fitted.scores([collate(ids)])
    predicted = module(ids).argmax(dim=1)
    with explaining(module):
        reader = LayerReader(module, task, ["pooled"], "mean", "logit")
        rates = [reader.gradients(collate(ids[predicted == k]), "predicted")[0]["pooled"] for k in (0, 1)]
    assert min(map(len, rates)) > 5
    assert any(0.1 < test.score < 0.9 for test in record.tests)
    for concept, made in layer.concepts.items():
        for number, vector in enumerate(made.vectors):
            Given.vectors = torch.stack([vector, -vector]).float()
            asked = [captum.concept.Concept(k, name, [ids[:4]]) for k, name in enumerate((concept, "random"))]
            folder = str(tmp_path / f"{concept}{number}")
            peer = captum.concept.TCAV(module, ["pooled"], classifier=Given(), save_path=folder)
            for k, rate in enumerate(rates):
                found = peer.interpret(ids[predicted == k], [asked], target=k)["0-1"]["pooled"]
                slopes = directional_derivatives(rate, vector[None])[:, 0]
                assert float(found["sign_count"][0]) == pytest.approx(float((slopes > 0).double().mean()))
                assert float(found["magnitude"][0]) == pytest.approx(float(slopes.mean()), abs=1e-5)
        for rate, name in zip(rates, ("no", "yes"), strict=True):
            slopes = directional_derivatives(rate, made.vectors)
            test = next(each for each in record.tests if (each.concept, each.target_name) == (concept, name))
            assert test.score == pytest.approx(float((slopes > 0).double().mean()))
            assert test.derivative == pytest.approx(float(slopes.mean()))
