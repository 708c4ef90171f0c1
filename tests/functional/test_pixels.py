"""The pixels that a module is given, read and replaced."""

import pytest
import torch
from torch import nn

from lightning_interpret.functional.features import PIXELS, LayerError, PixelFeatures, features, find_layer, same_layer


class Net(nn.Module):
    """Takes a size beside its images, as models with metadata do, and calls a net inside."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2))

    def forward(self, size, images=None, pixel_values=None):
        found = images if pixel_values is None else pixel_values
        return self.inner(found * 2) + size.sum()


def case():
    torch.manual_seed(0)
    return Net().double(), torch.rand(3, 6, 6).double().expand(2, -1, -1, -1) + torch.rand(2, 1, 1, 1).double()


WAYS = {
    "by position": lambda net, size, x: net(size, x),
    "by name": lambda net, size, x: net(size=size, images=x),
    "as pixel_values": lambda net, size, x: net(size, pixel_values=x),
    "of a part": lambda net, size, x: net.inner(x),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_what_is_read_is_what_the_module_is_given_and_what_is_put_is_what_it_sees(way):
    net, images = case()
    size, other = torch.ones(2, 1).double(), torch.randn(2, 3, 6, 6).double()
    with features(net, PIXELS, lambda: way(net, size, images), units=(2,)) as (opened, logits, read):
        assert torch.equal(read, images)
        assert torch.equal(logits, way(net, size, images))
        assert torch.equal(opened.put(other, lambda: way(net, size, images)), way(net, size, other))
        assert torch.equal(way(net, size, images), logits)  # outside of a call nothing is replaced
        wanted = other.clone().requires_grad_()
        slope = torch.autograd.grad(way(net, size, wanted).sum(), wanted)[0]
        put = other.clone().requires_grad_()
        found = torch.autograd.grad(opened.put(put, lambda: way(net, size, images)).sum(), put)[0]
        assert torch.equal(found, slope)
    assert not any(part._forward_pre_hooks for part in net.modules())


def test_the_name_pixel_values_goes_before_the_place():
    class Two(nn.Module):
        def forward(self, prompt, pixel_values):
            return (prompt + 3 * pixel_values).sum(dim=(1, 2, 3))

    net, images, prompt = Two(), torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    with features(net, PIXELS, lambda: net(prompt, pixel_values=images)) as (_, _, read):
        assert torch.equal(read, images)


def test_a_module_without_images_is_told_so():
    net = nn.Linear(3, 2)
    with (
        pytest.raises(LayerError, match="`layer='pixel_values'`: no module is called with images"),
        features(net, PIXELS, lambda: net(torch.rand(2, 3))),
    ):
        pass


def test_pixels_of_another_shape_are_refused():
    net, images = case()
    with PixelFeatures(net, PIXELS) as opened, pytest.raises(LayerError, match=r"has shape \(2, 3, 6, 6\), but got"):
        opened.put(images[:1], lambda: net(torch.ones(2, 1), images))


def test_the_pixels_are_no_layer_inside():
    net, _ = case()
    assert find_layer(net, PIXELS) is net
    assert same_layer(net, PIXELS, PIXELS)
    assert not same_layer(net, PIXELS, "inner")
