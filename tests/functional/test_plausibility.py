"""Agreement with people's rationales, against loops over sets and scikit-learn, and the golden case of ERASER."""

import math

import pytest
import torch
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from lightning_interpret.functional.faithfulness import BINS, comprehensiveness, probability_drop
from lightning_interpret.functional.plausibility import auprc, overlap, selection_rate, span_matches, token_f1


def flags(places, size=30):
    row = torch.zeros(1, size, dtype=torch.bool)
    row[0, list(places)] = True
    return row


def everything(size=30):
    return torch.ones(1, size, dtype=torch.bool)


def random_rows(seed, rows=40, size=17):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda share: torch.rand(rows, size, generator=generator) < share  # noqa: E731
    shares = torch.rand(rows, 1, generator=generator)
    return draw(shares), draw(shares.flip(0)), draw(0.85)


def by_sets(selected, gold, counts):
    """F1 of each row, tokens as sets."""
    for row in zip(selected.tolist(), gold.tolist(), counts.tolist(), strict=True):
        a, b, c = ({i for i, flag in enumerate(each) if flag} for each in row)
        predicted, true = a & c, b & c
        if not predicted and not true:
            yield math.nan
            continue
        precision = len(predicted & true) / len(predicted) if predicted else 0.0
        recall = len(predicted & true) / len(true) if true else 0.0
        yield 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def spans_of(row):
    found, start = [], None
    for i, flag in enumerate([*row, False]):
        if flag and start is None:
            start = i
        elif not flag and start is not None:
            found.append(set(range(start, i)))
            start = None
    return found


def by_spans(selected, gold, counts, threshold, strict):
    """Matches, spans and spans of people's, span by span."""
    for a, b in zip((selected & counts).tolist(), (gold & counts).tolist(), strict=True):
        ours, theirs = spans_of(a), spans_of(b)
        best = [max((len(p & t) / len(p | t) for t in theirs), default=0.0) for p in ours]
        met = sum(iou > threshold if strict else iou >= threshold for iou in best)
        yield met, len(ours), len(theirs)


def same(found, expected):
    assert found.dtype == torch.float64
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("seed", range(3))
def test_f1_is_that_of_sets(seed):
    same(token_f1(*random_rows(seed)), list(by_sets(*random_rows(seed))))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("threshold", [0.1, 0.5, 1 / 3, 1.0])
def test_spans_match_as_they_do_one_by_one(threshold, strict):
    rows = random_rows(3)
    found = torch.stack(span_matches(*rows, threshold=threshold, strict=strict), dim=1)
    assert [tuple(row) for row in found.tolist()] == list(by_spans(*rows, threshold, strict))


@pytest.mark.parametrize("ties", [False, True])
def test_areas_are_scikit_learns_where_people_selected_something(ties):
    scores = torch.randn(40, 17, generator=torch.Generator().manual_seed(0))
    scores = scores.round() if ties else scores
    _, gold, counts = random_rows(4)
    found, steps = auprc(scores, gold, counts), auprc(scores, gold, counts, step=True)
    for i in range(40):
        truth, score = gold[i, counts[i]].numpy(), scores[i, counts[i]].numpy()
        if not truth.any():
            assert found[i].isnan()
            assert steps[i].isnan()
            continue
        precision, recall, _ = precision_recall_curve(truth, score)
        assert float(found[i]) == pytest.approx(auc(recall, precision), abs=1e-12)
        assert float(steps[i]) == pytest.approx(average_precision_score(truth, score), abs=1e-12)


def test_t11_erasers_scores():
    sizes = [({1, 2, 3}, {2, 3, 4, 5}), ({0}, {0}), ({4, 5}, {7})]
    found = [float(token_f1(flags(b), flags(a), everything())) for a, b in sizes]
    assert found == pytest.approx([4 / 7, 1, 0])
    gold, ours = [*range(4), 10, 11], [*range(1, 5), 10, *range(20, 25)]
    assert [int(each) for each in span_matches(flags(ours), flags(gold), everything())] == [2, 3, 2]
    scores, truth = torch.tensor([[0.1, 0.9, 0.4, 0.6, 0.35, 0.2]]), torch.tensor([[0, 1, 1, 0, 1, 0]])
    assert float(auprc(scores, truth, everything(6))) == pytest.approx(0.763889, abs=1e-6)
    assert float(auprc(scores, truth, everything(6), step=True)) == pytest.approx(0.805556, abs=1e-6)


def test_a_match_at_the_threshold_is_one_in_the_code_and_none_in_the_paper():
    half = flags({10}), flags({10, 11}), everything()
    assert int(span_matches(*half)[0]) == 1
    assert int(span_matches(*half, strict=True)[0]) == 0
    twins = flags({10, 11, 13, 14}), flags(range(10, 15)), everything()
    assert [int(each) for each in span_matches(*twins, threshold=0.4)] == [2, 2, 1]  # counted on the model's side


def test_tokens_that_do_not_count_part_spans_and_are_nobodys():
    counts = everything()
    counts[0, 2] = False
    assert [int(each) for each in span_matches(flags({1, 2, 3}), flags({1, 2, 3}), counts)] == [2, 2, 2]
    assert [int(each) for each in overlap(flags({1, 2}), flags({2, 3}), counts)] == [0, 1, 1]
    assert float(selection_rate(flags(range(3)), counts)) == pytest.approx(2 / 29)
    assert selection_rate(flags({1}), ~everything()).isnan()


def test_what_people_left_empty_is_nothing_found_or_is_left_out():
    nothing, some = flags(()), flags({3})
    assert float(token_f1(some, nothing, everything())) == 0
    assert token_f1(some, nothing, everything(), empty="skip").isnan()
    assert token_f1(nothing, nothing, everything()).isnan()
    assert float(token_f1(nothing, some, everything(), empty="skip")) == 0
    assert auprc(torch.zeros(1, 30), nothing, everything()).isnan()
    assert float(auprc(torch.zeros(1, 30), everything(), everything())) == 1
    assert [int(each) for each in span_matches(nothing, nothing, everything())] == [0, 0, 0]
    none = torch.zeros(0, 5, dtype=torch.bool)
    assert [each.shape for each in span_matches(none, none, none)] == [(0,)] * 3
    empty = torch.zeros(2, 0, dtype=torch.bool)
    assert auprc(empty.float(), empty, empty).isnan().all()
    assert [each.tolist() for each in span_matches(empty, empty, empty)] == [[0, 0]] * 3


def test_a_drop_is_of_the_class_predicted_from_all_or_of_one_that_is_given():
    full, other = torch.tensor([[0.7, 0.3], [0.4, 0.6]]), torch.tensor([[0.2, 0.8], [0.9, 0.1]])
    assert probability_drop(full, other).tolist() == pytest.approx([0.5, 0.5], abs=1e-6)
    assert probability_drop(full, other, torch.tensor([1, 0])).tolist() == pytest.approx([-0.5, -0.5], abs=1e-6)


def test_a_drop_is_the_comprehensiveness_of_a_ranking_at_its_own_size():
    weights = torch.randn(10, generator=torch.Generator().manual_seed(1)).double()

    def kept(masks, rows):
        return (masks.double() @ weights).sigmoid()

    counts, chosen = torch.ones(1, 10, dtype=torch.bool), flags({1, 4}, 10)
    (known,) = comprehensiveness(chosen.double(), counts, kept, bins=(20,))
    full, rest = (torch.stack([p, 1 - p], dim=1) for p in (kept(counts, None), kept(~chosen, None)))
    assert float(probability_drop(full, rest, torch.tensor([0]))) == pytest.approx(float(known))
    assert len(BINS) == 5


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: token_f1(a, a[:, :-1], a), r"`selected`, `gold` and `counts` must be of one shape \(N, T\)"),
        (lambda a: token_f1(a[0], a[0], a[0]), r"must be of one shape \(N, T\), but are \(30,\)"),
        (lambda a: token_f1(a, a, a, empty="nan"), "`empty='nan'` must be one of 'zero', 'skip'"),
        (lambda a: span_matches(a, a, a, threshold=0.0), r"`threshold=0.0` must lie in \(0, 1\]"),
        (lambda a: auprc(a.float()[:, 1:], a, a), r"`scores` \(1, 29\) must be of the shape of `gold` \(1, 30\)"),
        (lambda a: probability_drop(a.float(), a.float()[:, 1:]), r"`full` \(1, 30\) and `other` \(1, 29\)"),
        (lambda a: probability_drop(a.float(), a.float(), a), r"`classes` must be \(1,\), but is \(1, 30\)"),
    ],
)
def test_what_does_not_fit_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(everything())


def test_what_nobody_was_asked_of_does_not_count_whatever_the_mask_says():
    selected = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]]).bool()
    gold = torch.tensor([[-100, 1, 1, -100], [-100, -100, -100, -100]])  # as a batch has it
    every, asked = torch.ones(2, 4).bool(), gold != -100
    for count in (token_f1, auprc, span_matches, overlap):
        found, wanted = (count(selected.float(), *each) for each in ((gold, every), (gold == 1, asked)))
        pairs = [(found, wanted)] if isinstance(found, torch.Tensor) else zip(found, wanted, strict=True)
        assert all(torch.equal(one.nan_to_num(9), other.nan_to_num(9)) for one, other in pairs)
    assert token_f1(selected, gold, every)[0] == pytest.approx(2 / 3)
    assert token_f1(selected, gold, every)[1].isnan()


def test_scores_that_are_none_have_no_area():
    gold, scores = torch.tensor([[1, 0, 1]] * 3).bool(), torch.tensor([[0.9, 0.1, 0.8]] * 3)
    scores[1, 1] = scores[2, 2] = torch.nan
    counts = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 0]]).bool()
    assert auprc(scores, gold, counts).nan_to_num(-1).tolist() == [1, -1, 1]
