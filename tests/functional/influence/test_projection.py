import pytest
import torch
from tiny import Bag, bag_task, batch_of
from torch import nn

from lightning_interpret.functional.influence.block import squares
from lightning_interpret.functional.influence.blocks import find_blocks
from lightning_interpret.functional.influence.gradients import recording
from lightning_interpret.functional.influence.projection import Projection, signs
from lightning_interpret.functional.scope import explaining


def used(texts=("a dull film", "good", "he is great and not bad")):
    """Return the blocks of a small text model in double precision, and what a batch makes of each."""
    task, module = bag_task(), Bag(nn.LayerNorm(6)).double()
    batch = batch_of(task.tokenizer, texts, labels=[0, 2, 1])
    with explaining(module):
        blocks = find_blocks(module)
        with recording(blocks, len(texts)) as record:
            losses = task.losses(module, batch)
        return blocks, record.gradients(losses.sum())


def whole(blocks, uses):
    by_block = {id(each.block): each for each in uses}
    return [block.flat(by_block[id(block)].gradient()) for block in blocks]


def signs_applied(projection, blocks, uses):
    """Return the projection of whole gradients by whole matrices: what is never made."""
    if projection.method == "rademacher":
        total = 0.0
        for (left, right), flat in zip(projection._sides, whole(blocks, uses), strict=True):
            matrix = torch.einsum("ki,kj->kij", left.double(), right.double()).flatten(1)
            total = total + flat @ matrix.T
        return total / projection.dimension**0.5
    pairs = zip(projection._sides, whole(blocks, uses), strict=True)
    return torch.cat([flat @ torch.kron(left, right).T for (left, right), flat in pairs], dim=1)


@pytest.mark.parametrize("method", ["rademacher", "lowrank"])
def test_the_factors_are_projected_as_the_whole_gradient_would_be(method):
    blocks, uses = used()
    projection = Projection(blocks, method, 40, seed=1)
    found = projection(uses)
    assert found.shape == (3, projection.dimension)
    assert projection.dimension <= 40
    torch.testing.assert_close(found, signs_applied(projection, blocks, uses), rtol=1e-10, atol=1e-12)


def test_as_many_dimensions_as_parameters_keep_every_product():
    blocks, uses = used()
    projection = Projection(blocks, "lowrank", 10**6, seed=0)
    assert projection.dimension == sum(block.numel for block in blocks)
    flat, found = torch.cat(whole(blocks, uses), dim=1), projection(uses)
    torch.testing.assert_close(found @ found.T, flat @ flat.T, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", ["rademacher", "lowrank"])
def test_products_are_kept_on_average(method):
    blocks, uses = used()
    flat = torch.cat(whole(blocks, uses), dim=1)
    exact = flat @ flat.T
    found = [Projection(blocks, method, 24, seed)(uses) for seed in range(600)]
    mean = torch.stack([each @ each.T for each in found]).mean(dim=0)
    assert float((mean - exact).norm() / exact.norm()) < 0.1


@pytest.mark.parametrize("method", ["rademacher", "lowrank"])
def test_what_is_drawn_depends_on_seed_and_block_alone(method):
    blocks, _ = used()
    torch.manual_seed(1)
    first = Projection(blocks, method, 40, 0)
    torch.manual_seed(2)
    again, other = Projection(blocks, method, 40, 0), Projection(blocks, method, 40, 1)
    assert all(torch.equal(a, b) for a, b in zip(first._sides[0], again._sides[0], strict=True))
    assert not torch.equal(first._sides[0][0], other._sides[0][0])
    if method == "rademacher":
        fewer = Projection(blocks[1:], method, 40, 0)
        assert torch.equal(fewer._sides[0][1], first._sides[1][1])


def splitmix(count, state):
    """SplitMix64 in Python's own integers, as it was published."""
    whole = 2**64 - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & whole
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & whole
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & whole
        yield z ^ (z >> 31)


def test_signs_are_those_of_an_integer_hash_and_balanced():
    assert [next(splitmix(1, 0))] == [0xE220A8397B1DCDAF]  # the published first number of seed 0
    for seed in (0, 12345, -7, 2**62):
        expected = [1.0 if z >> 63 else -1.0 for z in splitmix(500, seed & (2**64 - 1))]
        assert signs(500, seed).tolist() == expected
    many = signs(2**20, 3)
    assert abs(float(many.mean())) < 4 / 2**10
    assert abs(float((many[1:] * many[:-1]).mean())) < 4 / 2**10


def test_a_block_that_is_not_used_has_zeros():
    blocks, uses = used()
    for method in ("rademacher", "lowrank"):
        projection = Projection(blocks, method, 40, 0)
        without = projection([each for each in uses if each.block is not blocks[0]])
        assert without.shape == (3, projection.dimension)
        assert not torch.equal(without, projection(uses))


def test_squared_norms_by_places_are_those_of_whole_gradients():
    _, uses = used()
    for each in uses:
        torch.testing.assert_close(each.squares(), squares(each.gradient()), rtol=1e-10, atol=1e-14)
        doubled = torch.full(each.block.shape, 2.0, dtype=torch.float64)
        torch.testing.assert_close(squares(each.gradient(), doubled), 2 * each.squares(), rtol=1e-10, atol=1e-14)


def test_one_share_for_each_block_and_what_small_ones_leave_for_the_others():
    sizes = Projection([*used()[0]], "lowrank", 1, 0)._sides
    assert all(len(left) * len(right) == 1 for left, right in sizes)  # at least one number a block
