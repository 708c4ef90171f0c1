import pytest
import torch
from per_example import Tied, assert_right, drawn, runs
from torch import nn

from lightning_interpret.functional.influence.blocks import coverage, uncovered


def built(*layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(make() for make in layers)).double().eval()


CONVOLUTIONS = {
    "1d": (lambda: nn.Conv1d(4, 6, 3, stride=2, padding=1), (4, 11)),
    "1d same, dilated, reflected": (
        lambda: nn.Conv1d(4, 6, 4, padding="same", dilation=2, padding_mode="reflect"),
        (4, 11),
    ),
    "2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(1, 2), padding=(2, 1), dilation=(2, 1)), (4, 8, 7)),
    "2d circular, no bias": (lambda: nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular", bias=False), (4, 6, 5)),
    "2d replicate, valid": (lambda: nn.Conv2d(4, 6, 3, padding="valid", padding_mode="replicate"), (4, 6, 5)),
    "2d two groups": (lambda: nn.Conv2d(4, 6, 3, groups=2, dilation=2, padding=1), (4, 8, 7)),
    "2d by channel, no bias": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 6, 5)),
    "3d": (lambda: nn.Conv3d(4, 6, (2, 3, 1), padding=(1, 0, 2), stride=(1, 2, 1)), (4, 4, 5, 3)),
    "3d two groups": (lambda: nn.Conv3d(4, 6, 2, groups=2), (4, 4, 5, 3)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolutions_gradients_are_autograds(name):
    make, shape = CONVOLUTIONS[name]
    model = built(make, nn.Tanh, nn.Flatten, lambda: nn.LazyLinear(3))
    model(drawn(1, *shape))
    assert len(assert_right(model, runs(model, drawn(4, *shape)), 4)) == 2


@pytest.mark.parametrize(
    "frozen", [(), ("0.weight", "2.bias", "3.weight"), ("0.bias", "2.weight", "3.bias")], ids=["none", "some", "others"]
)
@pytest.mark.parametrize("groups", [1, 2])
def test_a_frozen_weight_or_bias_has_no_part_in_it(frozen, groups):
    model = built(
        lambda: nn.Conv2d(4, 6, 3, groups=groups), nn.ReLU, lambda: nn.GroupNorm(3, 6), lambda: nn.BatchNorm2d(6)
    )
    model.append(nn.Flatten()).append(nn.Linear(6 * 9, 3).double())
    model[3].running_mean.normal_(), model[3].running_var.uniform_(0.5, 2)
    for name, p in model.named_parameters():
        p.requires_grad_(name not in frozen)
        p.data.add_(drawn(*p.shape), alpha=0.3)
    blocks = assert_right(model, runs(model, drawn(5, 4, 5, 5)), 5)
    assert sum(block.numel for block in blocks) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "norm",
    [
        lambda: nn.LayerNorm(6),
        lambda: nn.LayerNorm((5, 6)),
        lambda: nn.LayerNorm(6, bias=False),
        lambda: nn.RMSNorm(6),
        lambda: nn.RMSNorm((5, 6), eps=1e-3),
        lambda: nn.BatchNorm1d(5),
        lambda: nn.GroupNorm(5, 5),
    ],
)
def test_a_normalisations_gradients_are_autograds(norm):
    model = built(lambda: nn.Linear(6, 6), norm, nn.Tanh, nn.Flatten, lambda: nn.Linear(30, 3))
    assert len(assert_right(model, runs(model, drawn(4, 5, 6)), 4)) == 3


class Residual(nn.Module):
    """A block of a ResNet: activations and sums in place."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.head(self.relu(out).mean(dim=(2, 3)))


def test_what_is_returned_may_be_changed_in_place():
    model = built(Residual)
    assert len(assert_right(model, runs(model, drawn(4, 4, 6, 6)), 4)) == 5


def test_in_single_precision_it_is_right_to_single_precision():
    model = built(Residual).float()
    assert_right(model, runs(model, drawn(4, 4, 6, 6).float()), 4, tolerance=1e-5)


class Twice(nn.Module):
    """A layer that is used for a sequence, then for its mean; one that is used by nothing; one by some batches only."""

    def __init__(self):
        super().__init__()
        self.layer, self.head, self.unused = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 6)

    def forward(self, x):
        hidden = torch.tanh(self.layer(x)).mean(dim=1)
        return self.head(torch.tanh(self.layer(hidden)))


def test_uses_of_a_layer_add_up():
    model = Twice().double()
    blocks = assert_right(model, runs(model, drawn(4, 5, 6)), 4)
    assert [block.name for block in blocks] == ["layer", "head"]


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"padding": 2}, {"both": False}])
def test_a_tied_weight_is_one_block_with_the_sum_of_its_uses(options):
    model = Tied(**options).double()
    ids = torch.randint(0, 9, (4, 7), generator=torch.Generator().manual_seed(0))
    blocks = assert_right(model, runs(model, ids), 4)
    assert coverage(model, blocks) == 1.0
    assert uncovered(model, blocks) == []
    assert sum(block.numel for block in blocks) == sum(p.numel() for p in model.parameters())


class Positions(nn.Module):
    """Positions embedded once for all examples, in one of the ways that people write it."""

    def __init__(self, how):
        super().__init__()
        self.how, self.words, self.places, self.head = how, nn.Embedding(9, 6), nn.Embedding(5, 6), nn.Linear(6, 3)
        self.scale = nn.LayerNorm(6)

    def forward(self, ids):
        places = torch.arange(ids.shape[1])
        if self.how == "row":
            found = self.scale(self.places(places[None]))
        elif self.how == "flat":
            found = self.scale(self.places(places))
        elif self.how == "unsqueezed":
            found = self.scale(self.places(places).unsqueeze(0))
        else:
            found = self.scale(self.places(places.expand_as(ids)))
        return self.head(torch.tanh(self.words(ids) + found).mean(dim=1))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
@pytest.mark.parametrize("how", ["row", "flat", "expanded"])
def test_positions_that_are_read_once_for_all_examples_are_each_examples(how, count):
    model = Positions(how).double()  # 5 examples of 5 places is the trap
    ids = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(0))
    assert len(assert_right(model, runs(model, ids), count)) == 4


@pytest.mark.parametrize("count", [2, 5])
def test_positions_that_cannot_be_given_to_each_example_are_left_out_by_name(count):
    model = Positions("unsqueezed").double()
    ids = torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(0))
    blocks = assert_right(model, runs(model, ids), count, left={"places"})
    assert "scale" in [block.name for block in blocks]


class TimeFirst(nn.Module):
    """Time first, as recurrent layers have it; or examples and time in one dimension."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer, self.head = how, nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        if self.how == "time first":
            return self.head(torch.tanh(self.layer(x.transpose(0, 1))).mean(dim=0))
        if self.how == "flat":
            return self.head(torch.tanh(self.layer(x.flatten(0, 1))).unflatten(0, x.shape[:2]).mean(dim=1))
        if self.how == "flat, time first":
            hidden = self.layer(x.transpose(0, 1).flatten(0, 1))
            return self.head(torch.tanh(hidden).unflatten(0, (x.shape[1], -1)).mean(dim=0))
        chosen = x.flatten(0, 1)[x.flatten(0, 1)[:, 0] > 0]  # as many as there are
        return self.head(torch.tanh(self.layer(chosen)).mean(dim=0).expand(len(x), -1) + x.mean(dim=1))


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize(
    ("how", "left"), [("time first", ()), ("flat", ()), ("flat, time first", {"layer"}), ("chosen", {"layer"})]
)
def test_examples_along_another_dimension_are_found_or_the_layer_is_left_out(how, left, count):
    model = TimeFirst(how).double()
    assert_right(model, runs(model, drawn(5, 5, 6)), count, left=left)


@pytest.mark.parametrize("batch_first", [True, False])
def test_attention_that_reads_weights_and_calls_no_layer_is_uncovered(batch_first):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=batch_first)
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            hidden = self.layer(x if batch_first else x.transpose(0, 1))
            return self.head(hidden.mean(dim=1 if batch_first else 0))

    model = Model().double().eval()
    blocks = assert_right(model, runs(model, drawn(5, 5, 6)), 5)
    attention = [
        f"layer.self_attn.{name}" for name in ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    ]
    assert uncovered(model, blocks) == attention
