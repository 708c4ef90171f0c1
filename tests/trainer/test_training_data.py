"""The training data of a run, found in `fit`, `validate` and `test`, and left as they are."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from purity import Texts, Toy, ToyTask, assert_same, state_of
from tiny import quiet_trainer, wordpiece
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
)

from lightning_interpret import GradientSimilarity, TextDataModule, WithIds
from lightning_interpret.data import TrainingExamples
from lightning_interpret.methods.examples import Examples
from lightning_interpret.trainer._compat import given_train_loaders
from lightning_interpret.trainer.context import attribution_mode
from lightning_interpret.trainer.training_data import ModuleExamples, find_training_data


class Sealed(DataLoader):
    """A loader that only the trainer may iterate."""

    opened = False

    def __iter__(self):
        if not self.opened:
            raise AssertionError("the trainer's loader was iterated")
        return super().__iter__()


class Finds(Callback):
    """Looks for the training data at the first batch that is validated or tested, and brings them to the module."""

    def __init__(self, source=None, id_column=None, **options):
        self.source, self.id_column, self.options, self.ids = source, id_column, options, None

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if self.ids is not None or trainer.sanity_checking:
            return
        if isinstance(trainer.train_dataloader, Sealed):
            trainer.train_dataloader.opened = False
        before = state_of(pl_module)
        self.examples = find_training_data(trainer, self.source, self.id_column)
        with attribution_mode(trainer, pl_module):
            self.data = ModuleExamples(self.examples, trainer, pl_module, **self.options)
            assert isinstance(self.data, Examples)
            self.ids = [i for ids, _ in self.data.batches() for i in ids.tolist()]
            self.taken = [ids.tolist() for ids, _ in self.data.take(self.ids[:2])]
            fitted = GradientSimilarity("dot").fit(pl_module, self.data, ToyTask(wordpiece()))
            self.scores = fitted.scores(next(self.data.take(self.ids[:1]))[1])[0]
        assert_same(before, state_of(pl_module), objects=True)
        if isinstance(trainer.train_dataloader, Sealed):
            trainer.train_dataloader.opened = True

    on_test_batch_end = on_validation_batch_end


def val_loader():
    return DataLoader(Texts(8, seed=1), batch_size=4)


def fit(train, tmp_path, **options):
    finds = Finds(**options)
    trainer = quiet_trainer(tmp_path, max_epochs=1, callbacks=[finds], num_sanity_val_steps=1)
    trainer.fit(Toy(), train, val_loader())
    return finds


def validate(tmp_path, source=None, *, stage="validate", datamodule=None, module=Toy, **options):
    finds = Finds(source, **options)
    trainer = quiet_trainer(tmp_path, callbacks=[finds])
    loaders = {"datamodule": datamodule} if datamodule is not None else {"dataloaders": val_loader()}
    getattr(trainer, stage)(module(), **loaders, verbose=False)
    return finds


# In fit


def test_fit_has_its_loaders_data_set_and_never_iterates_it(tmp_path):
    class Opened(Sealed):
        opened = True  # until the Monitor's hook begins

    loader = Opened(Texts(24), batch_size=5, shuffle=True, drop_last=True)
    finds = fit(loader, tmp_path)
    assert finds.ids == list(range(24))
    assert finds.taken == [[0, 1]]
    assert finds.examples.batch_size == 5
    assert finds.scores.examples == 24
    assert finds.scores.helpful[0].score > 0


def test_training_is_the_same_with_it_and_without_it(tmp_path):
    def weights(callbacks):
        torch.manual_seed(0)
        trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=callbacks, val_check_interval=2)
        loader = DataLoader(Augmented(24), batch_size=4, shuffle=True, num_workers=0)
        trainer.fit(Toy(), loader, val_loader())
        return state_of(trainer.lightning_module)

    class Augmented(Texts):
        def __getitem__(self, i):
            example = super().__getitem__(i)
            example["input_ids"] = example["input_ids"].roll(int(torch.randint(9, ())))
            return example

    assert_same(weights([]), weights([Finds(shard=(0, 2), limit=10, by_length=True, batch_size=3)]))


class FindsAtStart(Callback):
    """Looks for the training data before the first step, when Lightning has not set its loaders up."""

    def on_fit_start(self, trainer, pl_module):
        assert trainer.train_dataloader is None
        self.ids = find_training_data(trainer).ids.tolist()


class TextData(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(Texts(6), batch_size=2)


class ToyWithData(Toy):
    def train_dataloader(self):
        return DataLoader(Texts(6), batch_size=2)


@pytest.mark.parametrize(
    ("module", "data"),
    [
        (Toy, lambda: {"train_dataloaders": DataLoader(Texts(6), batch_size=2)}),
        (Toy, lambda: {"datamodule": TextData()}),
        (ToyWithData, dict),
    ],
)
def test_they_are_known_when_fit_starts(module, data, tmp_path):
    finds = FindsAtStart()
    trainer = quiet_trainer(tmp_path, max_epochs=1, limit_val_batches=0, callbacks=[finds])
    given = data()
    trainer.fit(module(), **given)
    assert finds.ids == list(range(6))
    assert given_train_loaders(trainer) is given.get("train_dataloaders")  # Lightning's, and not public
    trainer.validate(module(), val_loader(), verbose=False)
    assert given_train_loaders(trainer) is None


@pytest.mark.parametrize("shape", [dict, list, CombinedLoader])
def test_of_several_loaders_it_is_the_first(shape, tmp_path):
    loaders = [DataLoader(Texts(6), batch_size=2), DataLoader(Texts(4), batch_size=2)]
    given = {"a": loaders[0], "b": loaders[1]} if shape is not list else loaders
    given = CombinedLoader(given, "max_size") if shape is CombinedLoader else given
    finds = validate(tmp_path, given)
    assert finds.ids == list(range(6))
    trainer = quiet_trainer(tmp_path)
    trainer.fit_loop._combined_loader = CombinedLoader(given) if shape is not CombinedLoader else given
    assert len(find_training_data(trainer)) == 6


def test_a_subset_that_the_sampler_draws_from_is_the_training_data(tmp_path):
    sampler = SubsetRandomSampler([7, 2, 5, 11])
    for loader in (
        DataLoader(Texts(), batch_size=2, sampler=sampler),
        DataLoader(Texts(), batch_sampler=BatchSampler(sampler, 3, drop_last=True)),
    ):
        assert validate(tmp_path, loader).ids == [7, 2, 5, 11]
    every = DataLoader(Texts(), batch_sampler=BatchSampler(RandomSampler(Texts()), 3, drop_last=True))
    found = find_training_data(quiet_trainer(tmp_path), every)
    assert (len(found), found.batch_size) == (24, 3)


def test_lightnings_own_sampler_is_seen_through():
    from lightning.fabric.utilities.distributed import DistributedSamplerWrapper

    wrapped = DistributedSamplerWrapper(SubsetRandomSampler([7, 2, 5]), num_replicas=2, rank=0)
    found = find_training_data(quiet_trainer("."), DataLoader(Texts(), batch_size=2, sampler=wrapped))
    assert found.ids.tolist() == [7, 2, 5]


# In validate and test


class Data(LightningDataModule):
    """A data module that draws from the global generator when it is set up."""

    def __init__(self, **options):
        super().__init__()
        self.stages, self.options = [], options

    def setup(self, stage):
        self.stages.append(stage)
        if stage == "fit":
            order = torch.randperm(24).tolist()
            self.train = Subset(Texts(), order[:20])

    def train_dataloader(self):
        return Sealed(self.train, batch_size=4, shuffle=True, **self.options)

    def val_dataloader(self):
        return val_loader()

    test_dataloader = val_dataloader


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_data_module_is_set_up_for_fit_where_it_has_not_been(stage, tmp_path):
    data = Data()
    finds = validate(tmp_path, stage=stage, datamodule=data)
    assert len(finds.ids) == 20
    assert set(finds.ids) < set(range(24))
    assert finds.scores.helpful[0].score > 0
    assert data.stages == [stage, "fit"]  # a list that the copy shares
    assert not hasattr(data, "train")


def test_one_that_is_set_up_is_not_split_again(tmp_path):
    data, trainer = Data(), quiet_trainer(tmp_path)
    data.setup("fit")
    kept = list(data.train.indices)
    finds = validate(tmp_path, datamodule=data)
    assert finds.ids == kept
    assert data.stages == ["fit", "validate"]
    assert find_training_data(trainer, data).ids.tolist() == kept
    assert data.trainer is not trainer


def test_one_whose_data_set_is_none_until_then_is_set_up(tmp_path):
    class Late(Data):
        train = None

        def train_dataloader(self):
            return DataLoader(self.train, batch_size=4)

    assert len(find_training_data(quiet_trainer(tmp_path), Late())) == 20


def test_what_setting_up_raises_is_said(tmp_path):
    class Missing(Data):
        def setup(self, stage):
            if stage == "fit":
                raise FileNotFoundError("train.tsv")

    message = r"The training data of Missing cannot be set up \(FileNotFoundError: train.tsv\): give others"
    with pytest.raises(ValueError, match=message):
        find_training_data(quiet_trainer(tmp_path), Missing())


def test_text_data_module(tmp_path):
    rows = [f"{10 * i}\t{'a good film' if i % 2 else 'a dull very bad play'}\t{i % 2}" for i in range(12)]
    files = {}
    for name, some in (("train", rows[:9]), ("val", rows[9:])):
        files[f"{name}_file"] = str(tmp_path / f"{name}.tsv")
        (tmp_path / f"{name}.tsv").write_text("\n".join(["row\ttext\tlabel", *some]) + "\n")
    data = TextDataModule(**files, id_column="row", tokenizer=wordpiece(), batch_size=4)
    finds = validate(tmp_path, datamodule=data, by_length=True)
    assert sorted(finds.ids) == [10 * i for i in range(9)]
    assert finds.ids == [0, 20, 40, 60, 80, 10, 30, 50, 70]  # the longer text first
    assert finds.examples.index_of([70, 0]).tolist() == [7, 0]
    held_out = TextDataModule(train_file=files["train_file"], tokenizer=wordpiece(), batch_size=4)
    assert len(validate(tmp_path, datamodule=held_out).ids) == 8


def test_a_modules_own_loader_serves(tmp_path):
    class Own(Toy):
        def train_dataloader(self):
            return Sealed(Texts(6), batch_size=4)

    assert validate(tmp_path, module=Own).ids == list(range(6))


# Given


def shifted(rows):
    batch = default_collate(rows)
    return {**batch, "labels": 1 - batch["labels"]}


def test_a_data_set_is_batched_as_its_own_or_the_trainers_loaders_batch(tmp_path):
    finds = validate(tmp_path, Subset(Texts(), [3, 1]))
    assert (finds.ids, finds.examples.batch_size) == ([3, 1], 4)
    data = WithIds(Texts(), shifted)
    for given in (data, ConcatDataset([Subset(data, range(12)), Subset(data, range(12, 24))])):
        _, batch = next(find_training_data(quiet_trainer(tmp_path), given).batches(batch_size=24))
        assert torch.equal(batch["labels"], 1 - Texts().labels)
    given = TrainingExamples(Texts(), batch_size=7)
    assert find_training_data(quiet_trainer(tmp_path), given) is given
    rows = [{"x": float(i), "row": 5 * i} for i in range(4)]
    assert find_training_data(quiet_trainer(tmp_path), rows, "row").ids.tolist() == [0, 5, 10, 15]


def test_a_plain_data_set_beside_a_wrapped_validation_set_is_collated_by_the_users_function(tmp_path):
    val = WithIds(Texts(8), shifted)
    finds, trainer = Finds(Texts(6)), quiet_trainer(tmp_path)
    trainer.callbacks.append(finds)
    trainer.validate(Toy(), DataLoader(val, batch_size=2, collate_fn=val.collate), verbose=False)
    assert finds.ids == list(range(6))
    _, batch = next(finds.examples.batches(batch_size=6))
    assert torch.equal(batch["labels"], 1 - Texts(6).labels)


def test_processes_share_the_examples_and_take_any(tmp_path):
    first, second = (validate(tmp_path, Texts(9), shard=(rank, 2), batch_size=2) for rank in (0, 1))
    assert first.ids == [0, 2, 4, 6, 8]
    assert second.ids == [1, 3, 5, 7]
    assert [ids.tolist() for ids, _ in second.data.take([8, 0, 3])] == [[8, 0], [3]]
    assert validate(tmp_path, Texts(9), limit=3).ids == [0, 3, 6]


@pytest.mark.parametrize(("precision", "dtype"), [("32", torch.float32), ("model", torch.bfloat16)])
def test_batches_come_in_the_precision_that_is_asked_for(precision, dtype, tmp_path):
    class Looks(Callback):
        def on_validation_start(self, trainer, pl_module):
            found = find_training_data(trainer, WithIds(TensorDataset(torch.ones(3, 2))))
            self.found = list(ModuleExamples(found, trainer, pl_module, precision=precision).batches())

    looks = Looks()
    trainer = quiet_trainer(tmp_path, precision="bf16-true", callbacks=[looks])
    trainer.validate(Toy(), val_loader(), verbose=False)
    ((ids, (batch,)),) = looks.found
    assert (ids.tolist(), batch.dtype) == ([0, 1, 2], dtype)


# Bad input


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Texts()[i] for i in range(8))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "`train_data=None`, and this run has no training data: give `train_data=` a data module, a loader or a"),
        (partial(DataLoader, Stream(), batch_size=2), r"\(Stream\) cannot be read by index.* map-style data set"),
        (
            partial(DataLoader, Texts(), batch_size=None),
            r"\(DataLoader\) does not put the examples .* into batches",
        ),
        (partial(DataLoader, TensorDataset(torch.ones(3, 2)), batch_size=2), "have no `example_id` .*WithIds"),
        (partial(int, 5), r"\(int\) cannot be read by index"),
    ],
)
def test_what_cannot_serve_is_refused_with_what_to_do(source, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        validate(tmp_path, source and source())
