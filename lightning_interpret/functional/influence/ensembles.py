"""Many small networks of one architecture trained at once, each on examples of its own: stacked weights, one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LinearLR


def sgd(parameters: list[Tensor], lr: float = 0.1, momentum: float = 0.9, weight_decay: float = 1e-3) -> Optimizer:
    """Return stochastic gradient descent with momentum and weight decay."""
    return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay)


@dataclass(frozen=True)
class SubsetTrainer:
    """Trains a network on a subset of the examples: cross-entropy, the learning rate linear to zero.

    ``trainer(mask, seed)`` trains one; :meth:`many` trains several at once, to the same weights but for rounding. The
    seed decides the first weights and the order of examples, and the global random state is left alone.

    Args:
        make: Returns the network of a seed. It has no buffers and draws nothing when it is called.
        inputs: What the networks read, ``(n, ...)``.
        labels: Long ``(n,)``.
        optimizer: Returns the optimiser of some parameters, and works on each number by itself: SGD, Adam.
        epochs: Passes over a subset.
        batch_size: Examples a step.
    """

    make: Callable[[int], nn.Module]
    inputs: Tensor
    labels: Tensor
    optimizer: Callable[[list[Tensor]], Optimizer] = sgd
    epochs: int = 40
    batch_size: int = 50

    def __call__(self, mask: Tensor, seed: int = 0) -> nn.Module:
        """Return the network of a seed, trained on the examples where ``mask`` ``(n,)`` is true; in eval mode."""
        return self.many(mask[None], [seed])[0]

    def many(self, masks: Tensor, seeds: Sequence[int]) -> list[nn.Module]:
        """Return the networks of K masks ``(K, n)`` and their seeds.

        Raises:
            ValueError: If masks do not fit the examples, one is empty, or a network has buffers.
        """
        if masks.dim() != 2 or masks.shape[1] != len(self.labels) or len(masks) != len(seeds):
            raise ValueError(
                f"Expected masks ({len(seeds)}, {len(self.labels)}), a row a seed and a column an example, but got "
                f"{tuple(masks.shape)}."
            )
        sizes, found = masks.sum(dim=1), dict[int, nn.Module]()
        for size in sizes.unique().tolist():  # of one size, so that they make the same steps
            rows = (sizes == size).nonzero().flatten()
            trained = self._trained(masks[rows], [seeds[i] for i in rows.tolist()])
            found.update(zip(rows.tolist(), trained, strict=True))
        return [found[i] for i in range(len(masks))]

    def course(self, mask: Tensor, seed: int = 0) -> Iterator[tuple[nn.Module, float]]:
        """Yield after each epoch the network as far as it is trained, and the learning rate of the next step."""
        for networks, rate in self._courses(mask[None], [seed]):
            yield networks()[0], rate

    def _trained(self, masks: Tensor, seeds: Sequence[int]) -> list[nn.Module]:
        for networks, _ in self._courses(masks, seeds):  # noqa: B007
            pass
        return networks()

    def _courses(self, masks: Tensor, seeds: Sequence[int]) -> Iterator[tuple[Callable[[], list[nn.Module]], float]]:
        with torch.random.fork_rng(()):
            networks = [self.make(seed) for seed in seeds]
        weights, buffers = stack_module_state(networks)
        size = int(masks[0].sum())
        if buffers or not size:
            what = f"the networks have buffers ({', '.join(buffers)})" if buffers else "a subset is empty"
            raise ValueError(f"{what}: this trainer trains plain networks on some examples each.")
        skeleton = deepcopy(networks[0]).to("meta").train()
        call = torch.vmap(lambda own, inputs: functional_call(skeleton, own, (inputs,)))
        members = masks.nonzero()[:, 1].reshape(len(masks), size).to(self.labels.device)
        orders = [torch.Generator().manual_seed(seed) for seed in seeds]
        parameters = list(weights.values())
        optimizer = self.optimizer(parameters)
        schedule = LinearLR(optimizer, 1.0, 0.0, total_iters=self.epochs * -(-size // self.batch_size))
        for _ in range(self.epochs):
            order = torch.stack([torch.randperm(size, generator=each) for each in orders]).to(members.device)
            with torch.inference_mode(False), torch.enable_grad():
                for rows in members.gather(1, order).split(self.batch_size, dim=1):
                    gold = self.labels[rows].flatten()
                    logits = call(weights, self.inputs[rows]).flatten(0, 1)
                    loss = nn.functional.cross_entropy(logits, gold, reduction="sum") / rows.shape[1]
                    for parameter, grad in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                        parameter.grad = grad
                    optimizer.step()
                    schedule.step()
            yield partial(_filled, networks, weights), float(schedule.get_last_lr()[0])


def _filled(networks: list[nn.Module], weights: dict[str, Any]) -> list[nn.Module]:
    """Return the networks, in eval mode, with the weights that are stacked."""
    for place, network in enumerate(networks):
        network.load_state_dict({name: values[place].detach() for name, values in weights.items()})
    return [network.eval() for network in networks]


# What small networks are and how well they do, for workers too: what is imported here is torch alone


def perceptron(features: int, hidden: int, classes: int, seed: int) -> nn.Module:
    """Return a network of one hidden layer with tanh, its first weights drawn with a seed."""
    with torch.random.fork_rng(()):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, classes))


@dataclass(frozen=True)
class MinusLoss:
    """Measures a network at queries: minus its cross-entropy, ``(M,)``.

    Args:
        inputs: What it reads, ``(M, ...)``.
        labels: Long ``(M,)``.
    """

    inputs: Tensor
    labels: Tensor

    def __call__(self, network: nn.Module) -> Tensor:
        """Return the outcome at each query."""
        return -nn.functional.cross_entropy(network(self.inputs), self.labels, reduction="none")
