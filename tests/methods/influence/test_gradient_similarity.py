import torch
from digits import DigitsTask, digits, split, trained

from lightning_interpret.evidence import InfluenceRow
from lightning_interpret.methods.influence import GradientSimilarity


def test_the_cosine_finds_examples_of_the_querys_class():
    train, queries = digits()
    fitted = GradientSimilarity().fit(trained(), split(train, 100), DigitsTask())
    predicted = trained()(queries["pixels"]).argmax(dim=1)
    ids, scores = fitted.matrix({**queries, "labels": predicted})  # the gradient of what it says, right or wrong
    assert float((train["labels"][ids[scores.argmax(dim=1)]] == predicted).float().mean()) > 0.98


def test_a_record_says_ids_labels_and_coverage_and_comes_back_from_json():
    train, queries = digits()
    fitted = GradientSimilarity("dot").fit(trained(), split(train, 300), DigitsTask())
    row = fitted.scores({name: values[:3] for name, values in queries.items()}, k=4)[1]
    assert row.example_id == 1001
    assert row.gold == str(int(queries["labels"][1]))
    assert [each.score for each in row.helpful] == sorted((each.score for each in row.helpful), reverse=True)
    assert all(each.gold == str(int(train["labels"][each.example_id])) for each in row.helpful)
    assert (row.examples, row.skipped, row.approximation.coverage) == (1000, 0, 1.0)
    assert InfluenceRow.from_dict(row.to_dict()) == row
    assert torch.isfinite(torch.tensor([each.score for each in row.helpful + row.harmful])).all()
