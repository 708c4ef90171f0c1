import math
import sys

import pytest
import torch
from digits import DigitsTask, digits, network, split, train, trained
from purity import assert_same, state_of
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from lightning_interpret.evidence import NeighborsRow
from lightning_interpret.methods.neighbors import NearestNeighbors


def rest(start=1200, stop=1797):
    """Images that are neither trained on nor queries."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))[start:stop]
    return {
        "pixels": torch.tensor(data.data / 16, dtype=torch.float32)[order],
        "labels": torch.tensor(data.target)[order],
        "example_id": torch.arange(start, stop),
    }


def part(batch, rows):
    return {name: values[rows].clone() for name, values in batch.items()}


def fitted(size=100, **options):
    return NearestNeighbors(**options).fit(trained(), split(digits()[0], size), DigitsTask())


def same(a, b):
    """Whether two rows list the same examples and say the same, but for the last digits."""
    ids = [[each.example_id for each in row.neighbors] for row in (a, b)]
    distances = [torch.tensor([each.distance for each in row.neighbors]) for row in (a, b)]
    said = [torch.tensor(list(row.probabilities.values())) for row in (a, b)]
    return ids[0] == ids[1] and torch.allclose(*distances, atol=1e-5) and torch.allclose(*said, atol=1e-5)


def hidden(pixels):
    with torch.no_grad():
        return torch.tanh(trained()[0](pixels))


def test_features_are_what_the_head_reads_and_the_module_is_untouched():
    before = state_of(trained())
    found = fitted(64)
    found.calibrate(rest())
    row = found.find(part(digits()[1], slice(0, 3)), show=2)[1]
    assert_same(before, state_of(trained()), objects=True)
    assert torch.equal(found.store.features, hidden(digits()[0]["pixels"]))
    assert row.layer == "input of 2"
    assert (row.k, row.examples, len(row.neighbors)) == (10, 1000, 2)


def test_a_record_says_what_the_neighbours_are_and_comes_back_from_json():
    train, queries = digits()
    found = fitted(k=7)
    row = found.find(part(queries, slice(0, 3)))[1]
    distances = (hidden(queries["pixels"][1:2]) - hidden(train["pixels"])).norm(dim=1)
    expected = distances.sort(stable=True)
    assert [each.example_id for each in row.neighbors] == expected.indices[:7].tolist()
    assert torch.allclose(torch.tensor([each.distance for each in row.neighbors]), expected.values[:7], atol=1e-5)
    assert [each.gold for each in row.neighbors] == [str(int(y)) for y in train["labels"][expected.indices[:7]]]
    assert all(each.loss is not None and each.prediction is not None for each in row.neighbors)
    assert row.example_id == 1001
    assert abs(sum(row.shares.values()) - 1) < 1e-9
    assert row.conformity == row.shares.get(row.prediction, 0.0)
    assert abs(sum(row.probabilities.values()) - 1) < 1e-6
    assert (row.credibility, row.mixture, row.backed_off) == (None, None, None)
    assert NeighborsRow.from_dict(row.to_dict()) == row


def test_credibility_tells_right_from_wrong_and_images_from_noise():
    """Case A16."""
    found = fitted(k=20)
    found.calibrate(rest(1200, 1450))
    held_out, queries = rest(1450, 1797), digits()[1]
    test = {name: torch.cat([held_out[name], queries[name]]) for name in queries}
    noise = torch.rand(300, 64, generator=torch.Generator().manual_seed(0))
    rows = found.find(test, show=1)
    credible = torch.tensor([row.credibility for row in rows])
    right = torch.tensor([not row.wrong for row in rows])
    strange = found.find(
        {"pixels": noise, "labels": torch.zeros(300, dtype=torch.long), "example_id": torch.arange(300)}, show=1
    )
    strange = torch.tensor([row.credibility for row in strange])
    known = torch.tensor([1] * len(credible) + [0] * len(strange))
    assert roc_auc_score(right, credible) > 0.93
    assert roc_auc_score(known, torch.cat([credible, strange])) > 0.75
    assert float(credible[right].mean()) > 0.75
    assert float(credible[~right].mean()) < 0.2
    assert 0.1 < float(strange.mean()) < 0.4


def test_cosine_neighbours_are_of_the_querys_class():
    """Case A11."""
    queries = digits()[1]
    rows = fitted(metric="cosine", k=1).find(queries)
    share = sum(row.neighbors[0].gold == row.prediction for row in rows) / len(rows)
    assert share > 0.95


def test_neighbour_disagreement_finds_flipped_labels():
    """Case A9, the neighbours' row: AUC .997 over three seeds."""
    found = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        batch = dict(digits()[0])
        flipped = torch.rand(1000, generator=generator) < 0.1
        moved = (batch["labels"] + torch.randint(1, 10, (1000,), generator=generator)) % 10
        batch["labels"] = torch.where(flipped, moved, batch["labels"])
        model = train(batch, seed=seed, epochs=10)
        ids, shares = NearestNeighbors(k=10).fit(model, split(batch, 200), DigitsTask()).disagreement()
        assert ids.tolist() == list(range(1000))
        found.append(roc_auc_score(flipped, shares))
    assert sum(found) / 3 > 0.97


def test_the_back_off_is_chosen_on_held_out_data_and_never_lowers_their_accuracy():
    model = train(digits()[0], epochs=1)
    found = NearestNeighbors(k=10).fit(model, split(digits()[0], 200), DigitsTask())
    held_out, queries = split(rest(), 100), digits()[1]
    chosen = found.calibrate(iter(held_out), ks=(5, 10))
    assert chosen.accuracy_mixture >= chosen.accuracy_model
    assert chosen.accuracy_mixture > chosen.accuracy_model + 0.01  # a network of one epoch has much to gain
    assert len(chosen.conformities) == 597
    rows = found.find(queries, show=1)
    for row in rows:
        unsure = row.confidence < chosen.back_off.threshold
        best = max(row.probabilities, key=row.probabilities.get)
        assert row.backed_off == unsure
        if not unsure:
            assert row.mixture == row.prediction
        elif chosen.back_off.weight == 1.0:
            assert row.mixture == best

    def accuracy(said):
        return sum(a == row.gold for a, row in zip(said, rows, strict=True))

    assert accuracy([row.mixture for row in rows]) > accuracy([row.prediction for row in rows])
    assert found.find(queries, k=3, show=1)[0].credibility is None
    assert "k=10" in found.find(queries, k=3, show=1)[0].reasons["credibility"]


def test_torch_and_faiss_say_the_same_and_an_approximate_index_says_that_it_is():
    """Case A15."""
    queries = digits()[1]
    for metric in ("euclidean", "cosine"):
        exact, flat = (fitted(metric=metric, index=index).find(queries) for index in ("exact", "Flat"))
        assert [row.neighbors for row in exact] == [row.neighbors for row in flat]
        assert exact.rows == flat.rows
    near = fitted(index="IVF16,Flat;nprobe=8").find(queries)
    met = [
        len({e.example_id for e in a.neighbors} & {e.example_id for e in b.neighbors}) / 10
        for a, b in zip(fitted().find(queries), near, strict=True)
    ]
    assert sum(met) / len(met) > 0.95
    assert near[0].notes == ("approximate index 'IVF16,Flat;nprobe=8': some of the nearest may be missed",)
    few = fitted(index="IVF16,Flat").find(queries, k=300)  # one list of sixteen has not so many
    assert all(0 < len(row.neighbors) < 300 for row in few)
    assert all(math.isfinite(each.distance) for row in few for each in row.neighbors)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"pip install lightning-interpret\[faiss\]"):
        NearestNeighbors(index="Flat")


@pytest.mark.parametrize("index", ["Flatt", "IVF5000,Flat", "IVF4,Flat;nprob=3"])
def test_an_index_that_faiss_cannot_make_is_refused(index):
    with pytest.raises(ValueError, match="`index="):
        fitted(index=index)


def test_more_neighbours_than_examples_are_all_of_them():
    few = NearestNeighbors(k=50).fit(trained(), split(part(digits()[0], slice(0, 7)), 3), DigitsTask())
    row = few.find(digits()[1])[0]
    assert len(row.neighbors) == 7
    assert row.k == 50
    few.calibrate(rest())
    assert few.find(digits()[1])[0].credibility is not None


def test_batches_and_padding_by_repeats_change_nothing():
    queries = digits()[1]
    again = split(part(digits()[0], torch.cat([torch.arange(1000), torch.arange(40)])), 7)
    again = NearestNeighbors().fit(trained(), again, DigitsTask())
    for a, b in zip(fitted(1000).find(queries), again.find(iter(split(queries, 9))), strict=True):
        assert same(a, b)
    assert len(again.store) == 1000


class PairsTask(DigitsTask):
    """Reads ``[pixels, labels, {"example_id": ids}]``, as ``default_collate`` makes it of pairs."""

    def logits(self, module, batch):
        return module(batch[0])


def test_a_batch_that_is_a_list_of_tensors_is_one_batch():
    def pairs(batch):
        return [batch["pixels"], batch["labels"], {"example_id": batch["example_id"]}]

    queries, parts = part(digits()[1], slice(0, 4)), split(digits()[0], 100)
    found = NearestNeighbors().fit(trained(), [pairs(each) for each in parts], PairsTask())
    rows = found.find(pairs(queries))
    assert [row.example_id for row in rows] == queries["example_id"].tolist()
    assert all(same(*both) for both in zip(rows, fitted().find(queries), strict=True))
    assert len(found.find(iter([pairs(each) for each in split(queries, 3)]))) == 4


def test_what_is_not_finite_is_left_out_and_said():
    train_batch, queries = (part(batch, slice(0, 50)) for batch in digits())
    train_batch["pixels"][3, 5] = math.nan
    found = NearestNeighbors(k=3).fit(trained(), split(train_batch, 8), DigitsTask())
    rows = found.find(queries)
    assert (len(found.store), found.store.skipped) == (49, 1)
    assert rows[0].notes == ("1 training examples left out: features not finite",)
    assert not any(each.example_id == 3 for row in rows for each in row.neighbors)
    train_batch["pixels"][:] = math.nan
    with pytest.raises(ValueError, match="features of all 50 training examples are not finite"):
        NearestNeighbors().fit(trained(), split(train_batch, 8), DigitsTask())


def test_a_query_that_is_not_finite_has_no_neighbours_and_the_others_have_theirs():
    queries = part(digits()[1], slice(0, 3))
    queries["pixels"][1, 0] = math.nan
    found = fitted()
    rows = found.find(queries)
    assert rows[1].neighbors == ()
    assert rows[1].shares == {}
    assert rows[1].reasons["neighbors"] == "the query's features are not finite"
    assert same(rows[0], found.find(part(queries, slice(0, 1)))[0])
    assert len(found.calibrate(queries).conformities) == 2


def test_features_of_norm_zero_are_at_cosine_distance_one_and_counted():
    model = network()
    with torch.no_grad():
        model[0].bias.zero_()
    batch = part(digits()[0], slice(0, 20))
    batch["pixels"][4] = 0.0
    found = NearestNeighbors(metric="cosine", k=20).fit(model.eval(), [batch], DigitsTask())
    row = found.find(part(digits()[1], slice(0, 1)))[0]
    assert found.store.zero == 1
    assert {each.example_id: each.distance for each in row.neighbors}[4] == 1.0
    assert row.notes == ("1 training examples have features of norm 0, at distance 1 from all",)


def test_without_labels_there_are_neighbours_and_nothing_else():
    bare = [{"pixels": b["pixels"], "example_id": b["example_id"]} for b in split(digits()[0], 300)]
    found = NearestNeighbors(k=3).fit(trained(), bare, DigitsTask())
    row = found.find({"pixels": digits()[1]["pixels"][:2]})[0]
    assert len(row.neighbors) == 3
    assert row.shares == {}
    assert row.conformity is None
    assert row.reasons == {"shares": "no neighbour has a label"}
    assert row.neighbors[0].gold is None
    with pytest.raises(ValueError, match="no held-out example has a class as its label"):
        found.calibrate({"pixels": digits()[1]["pixels"][:2]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "`k=0`"),
        ({"metric": "cosin"}, "Did you mean 'cosine'"),
        ({"pooling": "max"}, "`pooling='max'`"),
        ({"temperature": 0.0}, "`temperature=0.0`"),
        ({"in_memory_bytes": -1}, "`in_memory_bytes=-1`"),
        ({"layer": []}, "names no layer"),
        ({"layer": "3"}, "`layer='3'` does not exist"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        fitted(**options)


def test_data_without_ids_or_without_examples_are_refused():
    with pytest.raises(ValueError, match="carry no `example_id`"):
        NearestNeighbors().fit(trained(), [{"pixels": digits()[0]["pixels"]}], DigitsTask())
    with pytest.raises(ValueError, match="have no examples"):
        NearestNeighbors().fit(trained(), [], DigitsTask())
