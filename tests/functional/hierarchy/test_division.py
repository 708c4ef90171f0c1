"""Top-down division: Shapley interactions against brute force, weights at every length, what the tree always is."""

import itertools
import math

import pytest
import torch

from lightning_interpret.functional.hierarchy.division import divide, interaction_weights
from lightning_interpret.functional.hierarchy.tree import level_order


def _game(units, rows=1, seed=0):
    """A set function of up to ten units for each row: a value for every set, float64."""
    values = torch.randn(rows, 2**units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def value(of, present):
        places = (present[:, :units].long() << torch.arange(min(units, present.shape[1]))).sum(dim=1)
        return values[of, places]

    return value


def _shapley_interaction(value, row, parts, i, window):
    """The Shapley interaction index of parts i and i + 1 among their neighbours, by its definition."""
    near = [p for p in range(len(parts)) if i - window <= p < i or i + 1 < p <= i + 1 + window]
    length, n = parts[-1][1], len(near) + 2

    def v(chosen):
        present = torch.zeros(1, length, dtype=torch.bool)
        for p in chosen:
            present[0, slice(*parts[p])] = True
        return float(value(torch.tensor([row]), present))

    total = 0.0
    for size in range(len(near) + 1):
        weight = math.factorial(size) * math.factorial(n - size - 2) / math.factorial(n - 1)
        for s in itertools.combinations(near, size):
            total += weight * (v((*s, i, i + 1)) - v((*s, i)) - v((*s, i + 1)) + v(s))
    return total


def _slowly(value, row, length, window, absolute):
    """HEDGE as the paper has it: every cut of every part is tried anew before each cut."""
    parts, made = [(0, length)], {}
    while len(parts) < length:
        tried = []
        for p, (start, end) in enumerate(parts):
            for cut in range(start + 1, end):
                split = [*parts[:p], (start, cut), (cut, end), *parts[p + 1 :]]
                found = _shapley_interaction(value, row, split, p, window)
                tried.append((abs(found) if absolute else found, cut, found, (start, end), split))
        _, cut, found, span, parts = min(tried, key=lambda each: each[:2])
        made[span] = ([(span[0], cut), (cut, span[1])], pytest.approx(found, abs=1e-12))
    return made


@pytest.mark.parametrize("window", [0, 1, 2, 3])
@pytest.mark.parametrize("absolute", [True, False])
def test_every_cut_is_that_of_brute_force(window, absolute):
    value, lengths = _game(7, rows=3), torch.tensor([7, 4, 6])
    found = divide(value, lengths, window=window, absolute=absolute)
    for row, length in enumerate(lengths.tolist()):
        assert found[row].parts == _slowly(value, row, length, window, absolute)


def test_a_window_over_the_whole_text_is_the_shapley_interaction_of_all_its_parts():
    value = _game(5)
    (found,) = divide(value, torch.tensor([5]), window=4)
    assert found.parts == _slowly(value, 0, 5, 99, True)


@pytest.mark.parametrize("neighbours", range(21))
def test_the_weights_of_all_coalitions_sum_to_one_at_every_number_of_neighbours(neighbours):
    weights = interaction_weights(neighbours)
    number = torch.tensor([math.comb(neighbours, k) for k in range(neighbours + 1)], dtype=torch.float64)
    assert float((weights * number).sum()) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("length", [2, 6, 20, 50])
def test_a_pair_that_acts_together_has_the_same_interaction_in_a_text_of_any_length(length):
    """v = 1 with units 0 and 1: 1 wherever they are parted; the paper's code has .067 at 20 parts and .022 at 50."""

    def value(of, present):
        return present[:, 0].double() * present[:, 1].double()

    (found,) = divide(value, torch.tensor([length]))
    ((_, interaction),) = [found.parts[span] for span in found.parts if found.parts[span][0][0] == (0, 1)]
    assert interaction == pytest.approx(1.0)
    assert (0, 2) in found.parts  # nothing else holds together, so that they are parted last
    assert list(found.parts)[-1] == (0, 2)


def test_memory_is_streamed_and_no_coalition_is_evaluated_twice():
    value, seen, every = _game(8), [], []

    def watched(of, present):
        seen.append(len(of))
        every.extend(map(tuple, present.tolist()))
        return value(of, present)

    (large,) = divide(watched, torch.tensor([8]), window=2, masks=10**6)
    seen.clear()
    every.clear()
    (small,) = divide(watched, torch.tensor([8]), window=2, masks=64)
    assert small.parts == large.parts
    assert len(every) == len(set(every)) == small.evaluations == large.evaluations
    assert max(seen) <= 8 * 64


def test_a_level_costs_at_most_so_many_values_a_unit():
    length, window, calls = 24, 1, []

    def value(of, present):
        calls.append(len(of))
        return (present.double() * torch.arange(length).sin()).sum(dim=1).tanh()

    (found,) = divide(value, torch.tensor([length]), window=window)
    assert found.evaluations == sum(calls)
    assert max(calls) <= 4 ** (window + 1) * (length - 1)
    assert found.evaluations < 4 ** (window + 1) * length * math.log2(length) * 4  # far from all levels anew


def test_leaves_partition_the_text_and_depth_is_below_its_length():
    lengths = torch.tensor([10, 1, 0, 2, 9])
    found = divide(_game(10, rows=5), lengths, window=1)
    for division, length in zip(found, lengths.tolist(), strict=True):
        nodes = level_order(length, division.parts)
        leaves = sorted((node.start, node.end) for node in nodes if not node.children)
        assert leaves == [(i, i + 1) for i in range(length)]
        assert len(nodes) == max(0, 2 * length - 1)
        depth = [0] * len(nodes)
        for i, node in enumerate(nodes):
            depth[i] = 0 if node.parent is None else depth[node.parent] + 1
            assert [k for k, each in enumerate(nodes) if each.parent == i] == list(node.children)
        assert max(depth, default=0) <= max(0, length - 1)
        assert depth == sorted(depth)


def test_a_batch_is_its_texts_one_by_one():
    value, lengths = _game(8, rows=4), torch.tensor([8, 3, 5, 8])
    together = divide(value, lengths, window=2)
    for row in range(4):
        alone = divide(lambda of, present, row=row: value(of + row, present), lengths[row : row + 1], window=2)
        assert together[row].parts == alone[0].parts


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_ties_are_cut_from_the_first_on_and_rounding_breaks_none(noise):
    generator = torch.Generator().manual_seed(0)

    def value(of, present):
        return 3.0 + noise * torch.randn(len(of), generator=generator, dtype=torch.float64)

    (found,) = divide(value, torch.tensor([5]))
    assert list(found.parts) == [(0, 5), (1, 5), (2, 5), (3, 5)]


def test_values_that_are_no_numbers_are_cut_last_and_stop_nothing():
    def value(of, present):
        return torch.where(present[:, 2], torch.nan, present.double().sum(dim=1))

    (found,) = divide(value, torch.tensor([4]))
    assert len(found.parts) == 3


def test_a_window_that_is_too_wide_is_refused():
    with pytest.raises(ValueError, match="`window=9` must be a whole number from 0 to 4"):
        divide(_game(3), torch.tensor([3]), window=9)
