"""The hash that masks are made of: fixed for ever, the same everywhere, dense as asked, independent."""

import math
import subprocess
import sys

import numpy
import pytest
import torch

from lightning_interpret.functional.turn_over import checked_ids, kept, unit_keys

GOLDEN = {  # a mask that changes makes another network of every checkpoint
    (12345, "input of head", 0, 0.5): "01000111010100000110011001110111",
    (12345, "input of head", 0, 0.9): "00000000000000000100011001100010",
    (2**40 + 7, "input of head", 0, 0.5): "10001111100101001011011100001101",
    (2**63 - 1, "bert.encoder.layer.0.output.dense", 3, 0.5): "00100000111111100101011000010010",
}
LARGE = (2**24, 10**8, 2**40, 2**53, 2**63 - 2001)


def bits(mask):
    return "".join("1" if kept else "0" for kept in mask.tolist())


@pytest.mark.parametrize(("example", "site", "seed", "rate"), GOLDEN)
def test_a_mask_is_what_it_was_when_it_was_first_made(example, site, seed, rate):
    assert bits(kept(torch.tensor([example]), unit_keys(site, 32, seed), rate)[0]) == GOLDEN[example, site, seed, rate]


def test_another_process_makes_the_same_masks():
    code = (
        "import torch; from lightning_interpret.functional.turn_over import kept, unit_keys;"
        "torch.set_default_dtype(torch.float16); torch.manual_seed(5);"
        "print(kept(torch.arange(2**40, 2**40 + 64), unit_keys('head', 64), 0.3).int().tolist())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == str(kept(torch.arange(2**40, 2**40 + 64), unit_keys("head", 64), 0.3).int().tolist())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device in this machine")
def test_a_device_makes_the_masks_of_the_processor():
    keys = unit_keys("head", 768)
    for start in (0, *LARGE):
        ids = torch.arange(start, start + 2000)
        for rate in (0.1, 0.5, 0.9):
            assert torch.equal(kept(ids.cuda(), keys, rate).cpu(), kept(ids, keys, rate))


@pytest.mark.parametrize("start", LARGE)
def test_no_two_of_many_examples_share_a_mask_however_large_their_ids(start):
    masks = kept(torch.arange(start, start + 2000), unit_keys("head", 64), 0.5)
    assert len(masks.unique(dim=0)) == 2000
    assert not torch.equal(masks, kept(torch.arange(2000), unit_keys("head", 64), 0.5))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("start", [0, 2**40])
def test_as_many_units_are_kept_as_the_rate_says(rate, start):
    masks = kept(torch.arange(start, start + 1000), unit_keys("head", 768), rate).double()
    sigma = math.sqrt(rate * (1 - rate))
    assert abs(float(masks.mean()) - (1 - rate)) < 4 * sigma / math.sqrt(masks.numel())
    for dim in (0, 1):  # of each unit, and for each example
        means = masks.mean(dim=dim)
        assert float(means.std()) == pytest.approx(sigma / math.sqrt(masks.shape[dim]), rel=0.15)


def correlations(masks, others=None):
    def scaled(values):
        values = values.double() - values.double().mean(dim=1, keepdim=True)
        return values / values.norm(dim=1, keepdim=True)

    if others is not None:
        return (scaled(masks) * scaled(others)).sum(dim=1)
    found = scaled(masks) @ scaled(masks).T
    return found[torch.ones_like(found).triu(1).bool()]


@pytest.mark.parametrize("step", [1, 2**16, 2**32, 2**33 + 1])
def test_masks_of_two_examples_have_nothing_in_common(step):
    masks = kept(torch.arange(500) * step, unit_keys("head", 768), 0.5)
    assert float(correlations(masks).std()) <= 1.1 / math.sqrt(768)
    assert float(correlations(masks.T).std()) <= 1.1 / math.sqrt(500)  # nor have two units


def test_masks_of_two_layers_and_of_two_seeds_have_nothing_in_common():
    ids, keys = torch.arange(1000), unit_keys("layer.0", 768)
    masks = kept(ids, keys, 0.5)
    for other in (unit_keys("layer.1", 768), unit_keys("input of layer.0", 768), unit_keys("layer.0", 768, seed=1)):
        found = correlations(masks, kept(ids, other, 0.5))
        assert abs(float(found.mean())) < 4 / math.sqrt(768 * 1000)
        assert float(found.std()) <= 1.1 / math.sqrt(768)


def test_a_layer_that_is_wider_keeps_the_masks_of_its_first_units():
    ids = torch.arange(50)
    assert torch.equal(kept(ids, unit_keys("a", 40), 0.5)[:, :24], kept(ids, unit_keys("a", 24), 0.5))


@pytest.mark.parametrize("ids", [[0, 7], (0, 7), numpy.array([0, 7], dtype="int32"), torch.tensor([0, 7]).int()])
def test_ids_are_integers_of_any_kind(ids):
    found = checked_ids(ids)
    assert found.dtype == torch.long
    assert found.tolist() == [0, 7]


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([1.0, 2.0]),
        torch.tensor([3, -1]),
        [2**63],
        numpy.array([1, 2], dtype="uint64"),
        torch.tensor(5),
        torch.tensor([[1], [2]]),
        torch.tensor([True, False]),
        ["a", "b"],
        None,
    ],
    ids=str,
)
def test_what_is_no_id_is_refused(ids):
    with pytest.raises(ValueError, match=r"`example_id` \(.*one integer from 0 to 2⁶³ − 1 for each example"):
        checked_ids(ids)
