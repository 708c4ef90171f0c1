"""Concept activation vectors on a model that is known to use one word and not another."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from planted_concepts import PADDING, UNUSED, USED, Planted, PlantedTask, collate, labelled, sets, texts
from purity import assert_same, state_of
from tiny import batch_of, classifier, wordpiece

from lightning_interpret import SequenceClassification
from lightning_interpret.functional.concept_vectors import directional_derivatives
from lightning_interpret.functional.features import LayerError, features
from lightning_interpret.functional.scope import explaining
from lightning_interpret.methods.concepts import ConceptActivationVectors, ConceptSets
from lightning_interpret.methods.concepts.features import LayerReader
from lightning_interpret.records.concept_test import AGAINST, ALIKE, FOR, UNTESTED

SMALL = ConceptActivationVectors("embedding", examples=40, vectors=5)
FEW = replace(SMALL, random_concepts=4)  # the vectors of a concept are the same


@pytest.fixture(scope="module")
def module():
    return Planted()


@pytest.fixture(scope="module")
def fitted(module):
    concepts = {"used": texts(40, USED, seed=1), "unused": texts(40, UNUSED, seed=2), "random": texts(40, seed=3)}
    return SMALL.fit(module, sets(concepts), PlantedTask())


@pytest.fixture(scope="module")
def tested(module, fitted):
    return fitted.scores([labelled(module, texts(60, seed=s)) for s in (4, 5)])


def of(record, concept, name):
    return next(test for test in record.tests if (test.concept, test.target_name) == (concept, name))


def test_the_concept_that_is_used_is_told_apart_and_the_one_that_is_not_is_not(tested):
    assert [of(tested, "used", name).verdict for name in ("no", "yes")] == [AGAINST, FOR]
    for concept in ("unused", "random"):
        assert {of(tested, concept, name).verdict for name in ("no", "yes")} == {ALIKE}
    used, unused = of(tested, "used", "yes"), of(tested, "unused", "yes")
    assert used.accuracy > 0.75  # the vector of the one that is not used is as good: it is the score that ignores it
    assert unused.accuracy > 0.75
    assert used.stability > 0.6 > used.random_stability
    assert of(tested, "random", "no").accuracy == pytest.approx(0.5, abs=0.15)
    assert used.low <= used.score <= used.high
    assert sum(of(tested, "used", name).examples for name in ("no", "yes")) == tested.tested == 120


@pytest.mark.slow
@pytest.mark.parametrize("statistic", ["effect", "derivative", "score"])
def test_random_concepts_are_called_concepts_as_often_as_the_level_says_and_by_the_papers_test_far_more_often(
    statistic,
):
    found = {"random_concepts": [], "paper": []}
    for seed in range(8):
        module, task = Planted(seed), PlantedTask()
        random = {f"random {k}": texts(40, seed=1000 * (seed + 1) + k) for k in range(16)}
        method = ConceptActivationVectors("embedding", examples=40, correction="none", seed=seed, statistic=statistic)
        made = method.fit(module, sets(random, random=800), task)
        for test, p in found.items():
            record = replace(made, method=replace(method, test=test)).scores([labelled(module, texts(200, seed=seed))])
            p += [each.p < 0.05 for each in record.tests]
    assert len(found["paper"]) == 256
    assert sum(found["random_concepts"]) / 256 < 0.09
    assert sum(found["paper"]) / 256 > 0.2


def test_the_derivative_is_the_rate_of_the_score_as_every_token_moves_along_the_vector(module, fitted):
    exact, task, step = copy.deepcopy(module).double(), PlantedTask(), 1e-4
    batch = {"input_ids": texts(6, seed=7)}
    direction = fitted.layers["embedding"].concepts["used"].direction
    with explaining(exact):
        rates, targets, _ = LayerReader(exact, task, ["embedding"], "mean", "logit").gradients(batch, "predicted")
        found = directional_derivatives(rates["embedding"], direction[None])[:, 0]
        with features(exact, "embedding", lambda: task.logits(exact, batch)) as (opened, _, value):
            there = (batch["input_ids"] != 0)[:, :, None]
            scored = [
                task.score(
                    opened.put(value + by * there * direction, lambda: task.logits(exact, batch)), targets, "logit"
                )
                for by in (step, -step)
            ]
    assert torch.allclose(found, (scored[0] - scored[1]) / (2 * step), atol=1e-7)
    assert found.abs().max() > 0.1


def test_padding_and_the_batch_make_no_difference(module, fitted):
    ids = texts(8, seed=8, padded=False)
    wide = torch.cat([ids, torch.zeros(8, 3, dtype=torch.long)], dim=1)
    one, other = (fitted.find({"input_ids": each}) for each in (ids, wide))
    each = [fitted.find({"input_ids": row[None]})[0] for row in ids]
    for a, b, c in zip(one, other, each, strict=True):
        own = [test.own for test in a.tests]
        assert [test.own for test in b.tests] == pytest.approx(own, abs=1e-5)
        assert [test.own for test in c.tests] == pytest.approx(own, abs=1e-5)


def test_a_record_of_an_example_has_the_tests_of_its_class(module, fitted, tested):
    (row,) = fitted.find(labelled(module, texts(1, USED, seed=9)), tested)
    assert row.target_name == row.prediction == "yes"
    assert [test.concept for test in row.tests] == ["used", "unused", "random"]
    for test in row.tests:
        assert replace(test, own=None) == of(tested, test.concept, "yes")
        assert math.isfinite(test.own)
    empty = texts(1, seed=9) * PADDING
    (row,) = fitted.find({"input_ids": empty}, tested)
    assert [test.own for test in row.tests] == [None] * 3
    assert row.reasons == dict.fromkeys(("used", "unused", "random"), "its derivative is not a finite number")


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_several_layers_of_a_transformer_are_read_at_once_and_each_is_as_if_alone(pooling):
    module, tokenizer = classifier("bert"), wordpiece()
    task, batch = SequenceClassification(tokenizer), batch_of(tokenizer)
    layers = ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1"]
    with explaining(module):
        together = LayerReader(module, task, layers, pooling, "logit")
        rates, _, _ = together.gradients(batch, "predicted")
        values = together.features(batch)
        for layer in layers:
            alone = LayerReader(module, task, [layer], pooling, "logit")
            assert torch.equal(alone.features(batch)[layer], values[layer])
            assert torch.allclose(alone.gradients(batch, "predicted")[0][layer], rates[layer], atol=1e-6)
    assert rates[layers[0]].shape == (2, 16)
    assert pooling != "mean" or all(rate.any() for rate in rates.values())


def test_the_module_is_left_as_it_was(module, fitted):
    module.train()
    before = state_of(module)
    again = FEW.fit(module, sets({"used": texts(40, USED, seed=1)}), PlantedTask())
    again.scores([labelled(module, texts(20, seed=4))])
    again.find({"input_ids": texts(2, seed=5)})
    assert_same(before, state_of(module), objects=True)
    module.eval()
    vectors = again.layers["embedding"].concepts["used"].vectors
    assert torch.equal(
        vectors, fitted.layers["embedding"].concepts["used"].vectors
    )  # its own draws, whatever else there is


def test_a_concept_can_be_set_against_another(module):
    concepts = {"used": texts(40, USED, seed=1), "unused": texts(40, UNUSED, seed=2)}
    found = FEW.fit(module, sets(concepts, against={"used": "unused"}), PlantedTask()).layers["embedding"]
    along = found.concepts["used"].direction.float() @ module.directions[:2].T
    alone = FEW.fit(module, sets(concepts), PlantedTask()).layers["embedding"].concepts["used"].direction.float()
    assert along[0] > 0.3
    assert along[1] < -0.3 < float(alone @ module.directions[1])
    with pytest.raises(ValueError, match=r"`against='unusd'` does not exist. Did you mean 'unused'"):
        sets(concepts, against={"used": "unusd"})


def test_what_cannot_be_tested_has_its_reason(module):
    concepts = {"used": texts(40, USED, seed=1), "few": texts(5, UNUSED, seed=2)}
    fitted = FEW.fit(module, sets(concepts), PlantedTask())
    assert fitted.concepts == ("used", "few")
    ids = texts(30, seed=4)
    record = fitted.scores([{"input_ids": ids, "labels": torch.ones(30, dtype=torch.long)}])
    few = of(record, "few", "yes")
    assert few.reason == "it has 5 examples, and at least 10 are needed"
    assert (few.p, few.score, few.verdict) == (None, None, UNTESTED)
    assert of(record, "used", "no").reason == "there is no example of the class"
    assert of(record, "used", "yes").p is not None
    nothing = fitted.scores([{"input_ids": ids, "labels": torch.full((30,), -100)}])
    assert nothing.tested == 0
    assert {test.verdict for test in nothing.tests} == {UNTESTED}
    still = copy.deepcopy(module)
    still.directions.zero_()
    batch = {"input_ids": ids, "labels": torch.ones(30).long()}
    constant = FEW.fit(still, sets(concepts), PlantedTask()).scores([batch])
    assert "every derivative is 0" in of(constant, "used", "yes").reason
    lost = replace(fitted, module=still, reader=LayerReader(still, PlantedTask(), ["embedding"], "mean", "logit"))
    still.directions.fill_(math.inf)
    assert "no finite gradient" in of(lost.scores([batch]), "used", "yes").reason
    still.embedding.weight.data[7] = math.nan
    with pytest.raises(LayerError, match=r"`layer='embedding'` gives NaN or infinite features of [1-9]\d+ of 845 "):
        FEW.fit(still, sets(concepts), PlantedTask())
    still.embedding.weight.data.zero_()
    same = FEW.fit(still, sets(concepts), PlantedTask()).scores([batch])
    assert of(same, "used", "yes").verdict == UNTESTED


def test_fits_that_see_no_difference_count_for_no_score_and_the_others_do(module):
    class Seldom(Planted):
        """Hears of one word, which few texts have."""

        def forward(self, ids):
            heard = self.after(self.embedding(ids).relu() * (ids == 5).unsqueeze(-1)).sum(dim=(1, 2))
            return torch.stack([heard, -heard], dim=1)

    batch = {"input_ids": texts(40, seed=5), "labels": torch.zeros(40).long()}
    method = ConceptActivationVectors("after", examples=20, vectors=3, random_concepts=12, statistic="score")
    told = {"used": texts(20, USED, seed=1), "heard": texts(20, 5, seed=2)}
    fitted = method.fit(Seldom(), sets(told, random=240), PlantedTask())
    assert not all(vectors.any() for vectors in fitted.layers["after"].random[20].vectors.flatten(0, 1))
    for test in fitted.scores([batch]).tests:
        assert (test.reason is None) == (test.target_name == "no")
        assert test.target_name == "yes" or None not in (test.score, test.p, test.random_score)


def test_layers_that_there_is_no_time_for_have_their_reason(module):
    many = replace(FEW, layer=["embedding", "after"])
    fitted = many.fit(module, sets({"used": texts(40, USED, seed=1)}), PlantedTask(), seconds=0)
    assert fitted.late == ("after",)
    record = fitted.scores([labelled(module, texts(20, seed=4))])
    assert {test.reason for test in record.tests if test.layer == "after"} == {
        "`max_seconds` was spent before its layer"
    }
    assert None in {test.reason for test in record.tests if test.layer == "embedding"}


def test_too_few_examples_are_an_error_that_names_them(module):
    with pytest.raises(ValueError, match=r"No concept can be fitted: 'used': it has 9 examples, and at least 10"):
        SMALL.fit(module, sets({"used": texts(9, USED)}), PlantedTask())
    with pytest.raises(ValueError, match=r"There are 100 random examples, and 20 random concepts of at least 10"):
        SMALL.fit(module, sets({"used": texts(40, USED)}, random=100), PlantedTask())
    for name, more in (("a", {}), ("random", {}), ("a", {"against": {"a": torch.arange(2)}})):
        with pytest.raises(ValueError, match=rf"Rows of '{name}' reach from 0 to 9 of 4"):
            ConceptSets((collate(texts(4)),), {name: torch.arange(10)}, torch.arange(2), **more)
    nameless = ConceptSets.of({"": list(texts(3))}, list(texts(2)), collate)
    assert (nameless.concepts[""].tolist(), nameless.random.tolist()) == ([0, 1, 2], [3, 4])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"solver": "sgd"}, r"`solver='sgd'` does not exist"),
        ({"statistic": "mean"}, r"`statistic='mean'`"),
        ({"level": 0}, r"`level=0` must lie between 0 and 1"),
        ({"least": 5}, r"`least=5` must be a whole number of at least 6"),
        ({"examples": 8}, r"`examples=8` must be a whole number of at least 10"),
        ({"layer": []}, r"`layer=\[\]` names no layer"),
    ],
)
def test_options_out_of_range_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        ConceptActivationVectors(**options)


def test_a_layer_that_does_not_exist_or_is_no_layers_output_is_refused(module):
    for layer, said in (("embeding", "Did you mean 'embedding'"), ("pixel_values", "is what the module is given")):
        with pytest.raises(LayerError, match=said):
            ConceptActivationVectors(layer).check(module)
