"""Turn-over dropout as a mixin: masks in training alone, fixed for each example, however it is trained."""

import pytest
import torch
from joint_toys import Plain, loader, rows
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from tiny import quiet_trainer
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, default_collate

from lightning_interpret import TurnOverDropoutMixin, WithIds
from lightning_interpret.layers import TurnOverDropout


class Net(TurnOverDropoutMixin, Plain):
    """Keeps what its head is given for each example in training: whether each unit is masked."""

    def __init__(self, hidden=8, bias=100.0, **options):
        super().__init__(hidden=hidden, **options)
        nn.init.constant_(self.first.bias, bias)  # no unit is zero of itself
        self.met = {}

    def training_step(self, batch, batch_idx):
        handle = self.last.register_forward_pre_hook(lambda part, args: self._meet(batch["example_id"], args[0]))
        try:
            return super().training_step(batch, batch_idx)
        finally:
            handle.remove()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def _meet(self, ids, given):
        for example, mask in zip(ids.tolist(), (given != 0).tolist(), strict=True):
            self.met.setdefault(example, set()).add(tuple(mask))


def fit(folder, module, data, **options):
    trainer = quiet_trainer(folder, **{"max_epochs": 1} | options)
    trainer.fit(module, data)
    return trainer


def masks(module, ids):
    return {i: {tuple(row)} for i, row in zip(ids, _kept(ids, module.turn_over_dropout), strict=True)}


def _kept(ids, dropout):
    fresh = TurnOverDropout(dropout.rate, dropout.seed)
    return (fresh.factors("input of last", torch.tensor(ids), 8) > 0).tolist()


@pytest.mark.parametrize(
    ("precision", "workers"), [("32-true", 0), ("32-true", 2), ("bf16-true", 0), ("bf16-mixed", 0), ("64-true", 0)]
)
def test_each_example_has_its_mask_in_every_epoch_and_order(tmp_path, workers, precision):
    torch.manual_seed(0)
    module = Net(turn_over_rate=0.4, turn_over_seed=2)
    data = DataLoader(rows(10), batch_size=4, shuffle=True, num_workers=workers)
    fit(tmp_path, module, data, max_epochs=3, precision=precision)
    assert module.met == masks(module, range(10))


def test_nothing_is_masked_but_in_training(tmp_path):
    class Looks(Callback):
        found = ()

        def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            plain = pl_module.last(F.relu(pl_module.first(batch["x"])))
            self.found += (torch.equal(pl_module(batch), plain),)

    class Predicts(Net):
        def predict_step(self, batch, batch_idx):
            return torch.equal(self(batch), self.last(F.relu(self.first(batch["x"]))))

    looks, module = Looks(), Predicts()
    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=[looks])
    trainer.fit(module, loader(), loader())
    assert len(looks.found) > 4
    assert all(looks.found)
    assert all(trainer.predict(module, loader()))
    module.eval()
    batch = default_collate(rows(4))
    plain = module(batch)
    with module.turn_over_dropout.seen(batch["example_id"]):
        assert not torch.equal(module(batch), plain)
    with pytest.raises(ValueError, match="does not know which examples this batch holds"):
        module.train()(batch)


@pytest.mark.slow
def test_a_compiled_module_trains_as_it_does_otherwise(tmp_path):
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        module = Net(bias=0.0)
        data = DataLoader(rows(12), batch_size=4)
        fit(tmp_path, torch.compile(module, backend="aot_eager") if compiled else module, data, max_epochs=2)
        losses.append(module.losses)
        assert len(losses[-1]) == 6
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_a_step_that_no_trainer_runs_attaches_by_itself():
    module, batch = Net(), default_collate(rows(4))
    loss = module.training_step(batch, 0)
    assert module.turn_over_dropout.sites == ("input of last",)
    assert module.met == masks(module, range(4))
    loss.backward()


def test_ids_of_a_wrapped_data_set_are_found_in_tuples(tmp_path):
    class Tuples(TurnOverDropoutMixin, Plain):
        def training_step(self, batch, batch_idx):
            x, labels, _ = batch
            return F.cross_entropy(self({"x": x}), labels)

    data = WithIds(TensorDataset(torch.randn(8, 4), torch.arange(8) % 2), in_batch="always")
    module = Tuples()
    fit(tmp_path, module, DataLoader(data, batch_size=4, collate_fn=data.collate))
    assert module.turn_over_dropout.idle == ()


def test_plain_dropout_needs_no_ids(tmp_path):
    module = Net()
    module.become_plain()
    data = [{name: value for name, value in row.items() if name != "example_id"} for row in rows(8)]
    module._meet = lambda *_: None
    module.training_step = lambda batch, batch_idx: module.loss(batch)
    fit(tmp_path, module, DataLoader(data, batch_size=4))
    assert module.turn_over_dropout.idle == ()


# Bad input


def without(name):
    return [{key: value for key, value in row.items() if key != name} for row in rows(6)]


def with_ids(ids):
    return [row | {"example_id": value} for row, value in zip(rows(len(ids)), ids, strict=True)]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(without("example_id"))


class Data(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(without("example_id"), batch_size=2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: DataLoader(without("example_id"), batch_size=2), r"carry no `example_id`.*WithIds.*collate_fn=data"),
        (
            lambda: CombinedLoader(DataLoader(without("example_id"), batch_size=2), "sequential"),
            "carry no `example_id`",
        ),
        (Data, "carry no `example_id`"),
        (lambda: DataLoader(with_ids([0.0, 1.0, 2.0]), batch_size=2), r"`example_id` \(.*one integer from 0"),
        (lambda: DataLoader(with_ids([4, -5, 6]), batch_size=2), r"`example_id` \(.*-5.*one integer from 0"),
        (lambda: DataLoader(with_ids([[1], [2], [3]]), batch_size=2), r"`example_id` \(.*one integer from 0"),
    ],
)
def test_ids_that_no_mask_can_be_made_of_are_refused_before_the_first_step(tmp_path, data, message):
    class Counts(Net):
        steps = 0

        def training_step(self, batch, batch_idx):
            self.steps += 1
            return super().training_step(batch, batch_idx)

    module = Counts()
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, module, data())
    assert module.steps == 0


def test_what_cannot_be_known_before_is_refused_in_the_step(tmp_path):
    with pytest.raises(ValueError, match=r"carry no `example_id`"):
        fit(tmp_path, Net(), DataLoader(Stream(), batch_size=2))
    with pytest.raises(ValueError, match=r"`example_id` \(.*-1.*one integer from 0"):
        fit(tmp_path, Net(), DataLoader(with_ids([0, 1, 2, -1]), batch_size=2))
    one = WithIds(rows(4))  # one id for a batch of two

    def collate(examples):
        batch = one.collate(examples)
        return batch | {"example_id": batch["example_id"][:1]}

    with pytest.raises(ValueError, match=r"has shape \(2, 8\), and masks are of 1 examples"):
        Net().training_step(collate([one[0], one[1]]), 0)


def test_examples_of_one_id_share_a_mask_which_is_said(tmp_path):
    data = rows(6) + rows(2)

    class Copies(list):
        example_ids = torch.tensor([row["example_id"] for row in data])

    module = Net()
    with pytest.warns(UserWarning, match=r"2 ids of the training data come more than once \(0, 1 first\).* share"):
        fit(tmp_path, module, DataLoader(Copies(data), batch_size=4))
    assert module.met == masks(module, range(6))


def test_a_layer_that_does_not_run_is_said(tmp_path):
    class Unused(Net):
        def __init__(self, **options):
            super().__init__(**options)
            self.unused = nn.Linear(8, 8)

    with pytest.warns(UserWarning, match=r"`turn_over_layers`: nothing has come through 'unused' in this training"):
        fit(tmp_path, Unused(turn_over_layers=["unused", "input of last"]), loader())


def test_layers_are_looked_for_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match=r"`turn_over_layers='lost'` does not exist. Did you mean 'last'"):
        fit(tmp_path, Net(turn_over_layers=["lost"]), loader())
    with pytest.raises(ValueError, match=r"`turn_over_layers=\[\]` names no layer"):
        fit(tmp_path, Net(turn_over_layers=[]), loader())
    with pytest.raises(ValueError, match=r"must lie between 0 and 1"):
        Net(turn_over_rate=1.0)

    class Bare(TurnOverDropoutMixin, Plain):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Bilinear(4, 4, 2), nn.Identity()

    with pytest.raises(ValueError, match=r"`turn_over_layers=None`: Bare has no linear layer"):
        fit(tmp_path, Bare(), loader())
