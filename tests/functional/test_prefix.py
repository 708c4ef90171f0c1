"""What comes before certain points of a forward is kept, and replayed: the same result, without the work."""

import pytest
import torch
from torch import nn

from lightning_interpret.functional import prefix
from lightning_interpret.functional.masked import looped, mapped, multiplied, repeated
from lightning_interpret.functional.prefix import prefix_of


class Part(nn.Module):
    """Counts its calls; returns a mapping and a tensor that what follows changes in place."""

    def __init__(self):
        super().__init__()
        self.inner, self.calls = nn.Linear(4, 4), 0

    def forward(self, x, twice=False):
        self.calls += 1
        return {"out": self.inner(x), "other": (x, None)}


class Net(nn.Module):
    """One part is called twice, before the point and after it; another is used inside of the first and alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.relu, self.head = Part(), nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        hidden = self.relu(self.first(x)["out"])
        again = self.first(hidden.sin(), twice=True)["out"]
        return self.head(again) + self.first.inner(hidden).sum(dim=1, keepdim=True)


@pytest.mark.parametrize("before", [True, False])
def test_what_is_replayed_gives_the_same_and_is_not_computed_again(before):
    net, x = Net().double(), torch.randn(5, 4, dtype=torch.float64)
    expected = net(x)
    found, kept = prefix_of(net, {"point": (net.head, before)}, lambda: net(x))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(kept.values["point"].shape, torch.Size([5, 4 if before else 3]))
    calls = net.first.calls
    for _ in range(2):
        with kept.replayed():
            torch.testing.assert_close(net(x), expected)
    assert net.first.calls == calls
    assert not {"forward"} & {name for part in net.modules() for name in vars(part)}
    torch.testing.assert_close(net(x), expected)
    assert net.first.calls == calls + 2
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in net.modules())


def test_only_so_much_is_kept(monkeypatch):
    monkeypatch.setattr(prefix, "ELEMENTS", 39)
    net, x = Net(), torch.randn(5, 4)
    _, kept = prefix_of(net, {"point": (net.head, True)}, lambda: net(x))
    assert kept.calls == {}
    with kept.replayed():
        torch.testing.assert_close(net(x), net(x))


def test_points_that_are_not_come_to_have_no_value():
    net = Net()
    other = nn.Linear(2, 2)
    _, kept = prefix_of(net, {"there": (net.relu, False), "not": (other, False)}, lambda: net(torch.randn(5, 4)))
    assert list(kept.values) == ["there"]
    assert kept.largest >= 20


def test_every_way_is_the_loop():
    net, x = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double(), torch.randn(5, 4).double()
    scope: list = []

    class Masked:
        def __init__(self, factors):
            self.factors = factors

        def __enter__(self):
            scope.append(net[2].register_forward_pre_hook(lambda _, args: (args[0] * self.factors["a"],)))

        def __exit__(self, *_):
            scope.pop().remove()

    factors = {"a": (torch.rand(7, 6) > 0.5).double() * 2}
    with torch.no_grad():
        expected = torch.stack([net[2](net[:2](x) * row).square().sum(dim=1) for row in factors["a"]])
        for found in (
            looped(lambda: net(x).square().sum(dim=1), Masked, factors),
            mapped(lambda: net(x).square().sum(dim=1), Masked, factors),
            repeated(lambda index: net(x[index]).square().sum(dim=1), Masked, factors, 5),
            multiplied(lambda: net(x).square().sum(dim=1), net[2], net[:2](x), factors["a"]),
        ):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert "forward" not in vars(net[2])
