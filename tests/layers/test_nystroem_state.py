"""The Nyström layer in checkpoints, copies, other precisions, compiled, and in several processes."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lightning_interpret.layers import Landmark, NystroemLayer

X = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
HALF = [torch.bfloat16, torch.float16]


def _layer(*, chosen=True, **options):
    layer = NystroemLayer(6, 8, **options)
    if chosen:
        places = layer.choose(X)
        layer.landmarks = [Landmark(int(i), f"text {i}", "good", "d1") for i in places]
        layer.gram_error = layer.approximation_error(X).gram
        with torch.no_grad():
            layer.projection.add_(0.1)
    return layer


def _saved(module):
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _same(a, b):
    assert a.landmarks == b.landmarks
    assert (a.rank, a.kernel, a.gram_error) == (b.rank, b.kernel, b.gram_error)
    for name, value in a.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, b.state_dict()[name]), name
    assert torch.equal(a(X), b(X))


@pytest.mark.parametrize("kernel", ["rbf", "polynomial", "cosine"])
def test_a_checkpoint_holds_all_bit_for_bit(kernel):
    layer, new = _layer(kernel=kernel), _layer(kernel=kernel, chosen=False)
    new.load_state_dict(_saved(layer))
    _same(layer, new)
    assert new.landmarks[0].text.startswith("text")


def test_a_checkpoint_from_before_landmarks_and_of_another_kernel():
    new = _layer(chosen=False)
    new.load_state_dict(_saved(_layer(chosen=False)))
    assert not new.ready
    with pytest.raises(ValueError, match="`kernel='cosine'`, not 'rbf'"):
        new.load_state_dict(_saved(_layer(kernel="cosine")), strict=False)
    with pytest.raises(ValueError, match="has 8 landmarks, not `landmarks=4`"):
        NystroemLayer(6, 4).load_state_dict(_saved(_layer()))


def test_copies_are_their_own():
    layer = _layer()
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        _same(layer, other)
        other.choose(X, "random", seed=5)
        assert not torch.equal(other.features, layer.features)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_leaves_the_layer_in_single(dtype):
    layer, net = _layer(), nn.Sequential(nn.Linear(6, 6), _layer(), nn.Linear(8, 2))
    expected = layer(X.to(dtype).float())
    for cast in (lambda m: m.to(dtype), lambda m: m.half() if dtype == torch.float16 else m.bfloat16()):
        moved = cast(copy.deepcopy(layer))
        assert {value.dtype for value in [*moved.parameters(), *moved.buffers()]} == {torch.float32}
        _same(layer, moved)
        found = moved(X.to(dtype))
        assert found.dtype == dtype
        assert torch.equal(found, expected.to(dtype))
    net.to(dtype)
    assert net[0].weight.dtype == dtype
    assert net[1].features.dtype == torch.float32
    net(X.to(dtype)).float().sum().backward()
    assert net[1].projection.grad.dtype == torch.float32


def test_autocast_and_a_default_of_half_precision_change_nothing():
    layer = _layer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer(X), layer(X))
        inside = layer(X)
    assert torch.equal(inside, layer(X))
    torch.set_default_dtype(torch.bfloat16)  # as `precision="bf16-true"` does it while a module is built
    try:
        built = _layer()
    finally:
        torch.set_default_dtype(torch.float32)
    _same(layer, built)


def test_double_precision_and_back():
    layer = _layer()
    double = copy.deepcopy(layer).double()
    assert double(X.double()).dtype == torch.float64
    torch.testing.assert_close(double(X.double()).float(), layer(X), rtol=1e-4, atol=1e-4)
    _same(layer, double.float())


def test_landmarks_get_no_gradient_and_may_be_set_in_inference_mode():
    layer = _layer(chosen=False)
    x = X.clone().requires_grad_()
    with torch.inference_mode():
        layer.choose(x * 1)
    layer(x).sum().backward()
    assert x.grad is not None
    assert not layer.features.requires_grad
    x.grad = None
    layer.set_landmarks(x[:8] * 1)
    layer(X).sum().backward()
    assert x.grad is None


def test_training_with_it_learns():
    torch.manual_seed(0)
    y = (X.norm(dim=1) > 2.3).long()  # no linear classifier can tell
    net = nn.Sequential(_layer(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.05)
    scale = net[0].gram.kernel.log_scale.item()
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X), y).backward()
        optimizer.step()
    assert float((net(X).argmax(1) == y).float().mean()) > 0.9
    assert net[0].gram.kernel.log_scale.item() != scale


@pytest.mark.parametrize("kernel", ["rbf", "polynomial", "cosine", "linear"])
def test_the_forward_compiles(kernel):
    layer = _layer(kernel=kernel)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), layer(X))
    compiled(X).sum().backward()
    assert layer.projection.grad is not None


def _in_process(rank, address, queue):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    layer = NystroemLayer(6, 8)
    layer.choose(X, "random", seed=rank)  # other landmarks: those of the first process hold
    net = DistributedDataParallel(nn.Sequential(layer, nn.Linear(8, 2)))
    net(X[rank::2]).sum().backward()
    queue.put((rank, layer.features.numpy(), layer.projection.grad.numpy()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_share_the_landmarks(tmp_path):
    context = torch.multiprocessing.get_context("fork")
    queue = context.Queue()
    torch.multiprocessing.start_processes(
        _in_process, (f"file://{tmp_path}/meet", queue), nprocs=2, start_method="fork"
    )
    found = {rank: values for rank, *values in (queue.get(), queue.get())}
    first = NystroemLayer(6, 8)
    first.choose(X, "random", seed=0)
    for features, gradient in found.values():
        assert (features == first.features.numpy()).all()
        assert (gradient == found[0][1]).all()
