"""Networks that are masked as `TurnOverDropoutMixin` masks them, and the plain read-out: two forwards a pair."""

import torch
from digits import DigitsTask, digits
from torch import nn

from lightning_interpret.layers import TurnOverDropout

TASK = DigitsTask()


class Masked(nn.Module):
    """A network whose layers are masked as the mixin does it."""

    def __init__(self, net, sites, rate=0.5):
        super().__init__()
        self.net = net
        self.turn_over_dropout = TurnOverDropout(rate, seed=3)
        self.turn_over_dropout.attach(self, sites)

    def forward(self, *args, **kwargs):
        return self.net(*args, **kwargs)


def perceptron(sites, rate=0.5, dtype=torch.float64):
    """Return a network of three linear layers on digits: ``net.0``, ``net.2`` and ``net.4``."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 20), nn.ReLU(), nn.Linear(20, 10))
    return Masked(net, sites, rate).to(dtype).eval()


def by_hand(module, task, train_ids, queries, measure=None):
    """Return the scores ``(M, n)`` of training examples: two forwards of each query alone, for each of them."""
    run, dropout, found = measure or task.losses, module.turn_over_dropout, []
    size = len(queries["example_id"]) if "example_id" in queries else len(queries["input_ids"])
    for row in range(size):
        query = task.take(queries, torch.tensor([row]))
        for i in train_ids:
            with torch.no_grad():
                with dropout.unseen(torch.tensor([i])):
                    without = run(module, query)
                with dropout.seen(torch.tensor([i])):
                    found.append(without - run(module, query))
    return torch.stack(found).reshape(size, len(train_ids))


def own_by_hand(module, task, batch):
    """Return the self-influence of each example of a batch by two forwards of it alone."""
    ids = batch["example_id"].tolist()
    parts = [task.take(batch, torch.tensor([row])) for row in range(len(ids))]
    return torch.cat([by_hand(module, task, [i], part)[0] for i, part in zip(ids, parts, strict=True)])


def pixels(count, dtype=torch.float64, part=0):
    """Return some digits: of the training examples (0) or of the queries (1)."""
    return {name: values[:count] for name, values in digits(dtype)[part].items()}


class Calls:
    """Counts the calls of a module while it stands there."""

    def __init__(self, module):
        self.count = 0
        self._handle = module.register_forward_hook(self._add)

    def _add(self, *given):
        self.count += 1

    def stop(self):
        self._handle.remove()
        return self.count
