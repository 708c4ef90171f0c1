import math

import faiss
import pytest
import torch
from sklearn.neighbors import NearestNeighbors as Peer

from lightning_interpret.functional.neighbors.back_off import BackOff, choose_back_off
from lightning_interpret.functional.neighbors.labels import (
    conformity,
    credibility,
    disagreement,
    knn_probabilities,
    shares,
)
from lightning_interpret.functional.neighbors.search import nearest, rank


def vectors(count, width=24, seed=0, offset=0.0):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + offset


def by_loop(queries, features, ids, k, metric, own=None):
    """One pair at a time in double precision, ties by id."""
    rows = []
    for number, query in enumerate(queries.double()):
        found = []
        for place, feature in enumerate(features.double()):
            if metric == "cosine":
                size = float(query.norm() * feature.norm())
                distance = 1 - float(query @ feature) / size if size else 1.0
            else:
                distance = math.dist(query.tolist(), feature.tolist())
            if own is None or int(ids[place]) != int(own[number]):
                found.append((distance, int(ids[place])))
        rows.append(sorted(found)[:k])
    return rows


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("chunk", [2**24, 1000, 1])
def test_the_search_is_a_loop_over_all_pairs(metric, chunk):
    queries, features, ids = vectors(7), vectors(90, seed=1), torch.randperm(90) + 500
    distances, places = nearest(queries, features, ids, 5, metric=metric, chunk=chunk)
    expected = by_loop(queries, features, ids, 5, metric)
    assert ids[places].tolist() == [[i for _, i in row] for row in expected]
    assert torch.allclose(distances.double(), torch.tensor([[d for d, _ in row] for row in expected]).double())


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_torch_faiss_flat_and_scikit_learn_find_the_same(metric):
    """Case A15."""
    queries, features, ids = vectors(64, 48), vectors(5000, 48, seed=1), torch.arange(5000)
    distances, places = nearest(queries, features, ids, 10, metric=metric, chunk=2**15)
    unit = [torch.nn.functional.normalize(x, dim=1) if metric == "cosine" else x for x in (queries, features)]
    index = faiss.IndexFlatL2(48)
    index.add(unit[1].numpy())
    assert (torch.from_numpy(index.search(unit[0].numpy(), 10)[1]).sort().values == places.sort().values).all()
    peer = Peer(n_neighbors=10, metric=metric, algorithm="brute").fit(features.numpy())
    found, order = peer.kneighbors(queries.numpy())
    assert (torch.from_numpy(order) == places).all()
    assert torch.allclose(torch.from_numpy(found).float(), distances, atol=1e-5)


def test_vectors_that_are_long_and_near_each_other_keep_their_digits():
    """‖a‖² − 2ab + ‖b‖² alone has none of them left here."""
    queries, features = vectors(5, offset=3000.0), vectors(400, seed=1, offset=3000.0)
    features[:5] = queries + 0.05
    distances, places = nearest(queries, features, torch.arange(400), 1)
    assert places[:, 0].tolist() == list(range(5))
    assert torch.allclose(distances[:, 0], (queries - features[:5]).norm(dim=1))


@pytest.mark.parametrize("chunk", [2**24, 600])
def test_ties_go_to_the_smaller_id_in_whatever_order_they_stand(chunk):
    features = vectors(1, 8).expand(120, 8).contiguous()
    ids = torch.randperm(120, generator=torch.Generator().manual_seed(3))
    distances, places = nearest(vectors(3, 8, seed=2), features, ids, 6, chunk=chunk)
    assert ids[places].tolist() == [[0, 1, 2, 3, 4, 5]] * 3
    assert distances.unique(dim=1).shape == (3, 1)


def test_more_than_there_are_is_all_and_no_neighbour_is_none():
    distances, places = nearest(vectors(2), vectors(4, seed=1), torch.arange(4), 9)
    assert distances.shape == places.shape == (2, 4)
    assert nearest(vectors(2), vectors(0), torch.arange(0), 9)[1].shape == (2, 0)
    assert nearest(vectors(0), vectors(4), torch.arange(4), 2)[1].shape == (0, 2)
    alone = vectors(1)
    assert nearest(alone, alone, torch.tensor([5]), 3, exclude=torch.tensor([5]))[1].shape == (1, 0)


def test_without_a_direction_the_cosine_distance_is_one():
    features = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    distances, places = nearest(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), features, torch.arange(3), 3, metric="cosine")
    assert places.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert distances.tolist() == [[0.0, 1.0, 2.0], [1.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [({"k": 0}, "`k=0`"), ({"k": True}, "`k=True`"), ({"metric": "cosin"}, "Did you mean 'cosine'")],
)
def test_what_cannot_be_searched_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        nearest(vectors(2), vectors(4), torch.arange(4), **{"k": 2} | change)
    with pytest.raises(ValueError, match="both must be"):
        nearest(vectors(2, 3), vectors(4, 5), torch.arange(4), 2)


def test_candidates_are_ranked_as_the_search_ranks_them():
    queries, features, ids = vectors(6), vectors(50, seed=1), torch.arange(50).flip(0)
    distances, places = nearest(queries, features, ids, 4)
    shuffled = torch.cat([places.flip(1), torch.full((6, 3), -1)], dim=1)
    again = rank(queries, features, ids, shuffled, 4)
    assert torch.equal(again[0], distances)
    assert torch.equal(again[1], places)


def test_p_knn_by_hand():
    """Three neighbours at d = 0, 1 and 2 with T = 2: weights 1, e^−½, e^−1, of classes 1, 0, 1."""
    weights = [1.0, math.exp(-0.5), math.exp(-1.0)]
    expected = [weights[1] / sum(weights), (weights[0] + weights[2]) / sum(weights), 0.0]
    found = knn_probabilities(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[1, 0, 1]]), 3, 2.0)
    assert found[0].tolist() == pytest.approx(expected)
    assert shares(torch.tensor([[1, 0, 1, -1]]), 3)[0].tolist() == [0.25, 0.5, 0.0]


def test_p_knn_without_a_labelled_neighbour_knows_nothing_and_far_ones_do_not_underflow():
    assert knn_probabilities(torch.zeros(1, 2), torch.tensor([[-1, -1]]), 4, 1.0).tolist() == [[0.25] * 4]
    far = knn_probabilities(torch.tensor([[1e6, 1e6 + 64]]), torch.tensor([[0, 1]]), 2, 64.0)
    assert far[0].tolist() == pytest.approx([1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1))])


def test_credibility_by_hand_and_the_right_way_round():
    """Nonconformities of calibration .75, .5, .5, 0: at least as large as the query's 1, .5, .25, 0 are 0, 3, 3, 4."""
    calibration = 1 - torch.tensor([0.75, 0.5, 0.5, 0.0])
    found = credibility(1 - torch.tensor([1.0, 0.5, 0.25, 0.0]), calibration)
    assert found.tolist() == [0.0, 0.75, 0.75, 1.0]
    assert conformity(torch.tensor([[2, 2, 1, 0]]), torch.tensor([2])).tolist() == [0.5]
    with pytest.raises(ValueError, match="at least one calibration example"):
        credibility(torch.ones(1), torch.ones(0))


def test_disagreement_counts_the_others_alone():
    features = torch.tensor([[0.0], [0.1], [0.2], [0.3], [9.0]])
    ids, labels = torch.tensor([7, 8, 9, 10, 11]), torch.tensor([0, 0, 1, -1, 0])
    parts = list(disagreement(features, ids, labels, 2))
    found = {int(i): float(share) for part, shares in parts for i, share in zip(part, shares, strict=True)}
    assert found[7] == 0.5
    assert found[8] == 0.5
    assert found[9] == 1.0
    assert math.isnan(found[10])
    assert found[11] == 1.0
    assert [len(part) for part, _ in disagreement(features, ids, labels, 2, rows=torch.tensor([3, 1]))] == [2]


def _held_out(seed, count=200, classes=4):
    generator = torch.Generator().manual_seed(seed)
    gold = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), gold] += 1.2
    labels = torch.where(
        torch.rand(count, 6, generator=generator) < 0.6,
        gold[:, None],
        torch.randint(classes, (count, 6), generator=generator),
    )
    return logits.softmax(dim=1), torch.rand(count, 6, generator=generator).sort(dim=1).values, labels, gold


@pytest.mark.parametrize("seed", range(4))
def test_the_choice_of_a_back_off_never_lowers_held_out_accuracy_and_is_the_best_of_all(seed):
    probabilities, distances, labels, gold = _held_out(seed)
    options = {"weights": (1.0, 0.5), "temperatures": (0.1, 1.0), "ks": (3, 6)}
    chosen = choose_back_off(probabilities, distances, labels, gold, **options)

    def accuracy(back_off):
        mixed = back_off.mixture(probabilities, back_off.knn(distances, labels, 4))
        return int((mixed.argmax(dim=1) == gold).sum())

    thresholds = [0.0, 1.1, *probabilities.max(dim=1).values.tolist()]
    every = [
        BackOff(t, w, T, k)
        for t in thresholds
        for w in options["weights"]
        for T in options["temperatures"]
        for k in options["ks"]
    ]
    assert accuracy(chosen) == max(map(accuracy, every)) >= int((probabilities.argmax(dim=1) == gold).sum())


def test_neighbours_that_are_no_better_are_not_asked():
    probabilities, distances, labels, gold = _held_out(0)
    chosen = choose_back_off(probabilities, distances, torch.zeros_like(labels), torch.ones_like(gold))
    assert chosen.threshold == 0.0
    assert not chosen.unsure(probabilities).any()
    perfect = choose_back_off(probabilities, distances, gold[:, None].expand(-1, 6), gold)
    wrong = probabilities.argmax(dim=1) != gold
    assert perfect.unsure(probabilities)[wrong].all()
    with pytest.raises(ValueError, match="at least one held-out example"):
        choose_back_off(probabilities[:0], distances[:0], labels[:0], gold[:0])
