"""The reader of training data: by index, known by id, in bounded memory, without a random number of anyone else's."""

import random
import weakref

import numpy
import pytest
import torch
from datasets import Dataset as Table
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split

from lightning_interpret.data import ReviewCorpus, TextRow, TrainingExamples, WithIds
from lightning_interpret.methods.examples import Examples

N = 23


class Rows(Dataset):
    """Mappings with an id that is not the index; keeps what was read, and cannot read some."""

    def __init__(self, size=N, broken=(), ids=None, **extra):
        self.size, self.broken, self.read, self.extra = size, broken, [], extra
        self.ids = [100 - i for i in range(size)] if ids is None else ids

    def __len__(self):
        return self.size

    def __getitem__(self, i):
        self.read.append(i)
        if i in self.broken:
            raise OSError(f"file {i} is damaged")
        return {"x": torch.tensor([float(i)]), "example_id": self.ids[i], **self.extra}


class Batch(dict):
    """A batch that counts how many of its kind there are."""

    alive, most = weakref.WeakSet(), 0

    def __init__(self, rows):
        super().__init__(x=torch.cat([row["x"] for row in rows]))
        Batch.alive.add(self)
        Batch.most = max(Batch.most, len(Batch.alive))

    __hash__ = object.__hash__


def pairs(size=N):
    return TensorDataset(torch.arange(size).float(), torch.arange(size) % 2)


def seen(batches):
    return [i for ids, _ in batches for i in ids.tolist()]


@pytest.mark.parametrize(
    "examples",
    [
        lambda: TrainingExamples(WithIds(pairs())),
        lambda: TrainingExamples(pairs(), ids=range(N)),
        lambda: TrainingExamples(Table.from_dict({"x": list(range(N)), "row": list(range(N))}), id_column="row"),
        lambda: TrainingExamples([{"x": i, "row": i} for i in range(N)], id_column="row"),
        lambda: TrainingExamples([{"x": i, "example_id": i} for i in range(N)]),
        lambda: TrainingExamples([(float(i), i) for i in range(N)], lambda rows: {"example_id": [i for _, i in rows]}),
        lambda: TrainingExamples([{"x": i} for i in range(N)], lambda rows: [row["x"] for row in rows], range(N)),
        lambda: TrainingExamples(ReviewCorpus(N), list),
        lambda: TrainingExamples(WithIds([{"x": i, "row": i} for i in range(N)], id_column="row")),
    ],
)
def test_ids_are_found_wherever_they_are(examples):
    examples = examples()
    assert isinstance(examples, Examples)
    assert len(examples) == N
    assert examples.ids.tolist() == list(range(N))
    assert [ids.tolist() for ids, _ in examples.batches(batch_size=10)] == [
        [*range(10)],
        [*range(10, 20)],
        [20, 21, 22],
    ]
    assert seen(examples.take([20, 3, 7])) == [20, 3, 7]
    assert examples.index_of(torch.tensor([5, 2])).tolist() == [5, 2]


def test_batches_and_their_ids_belong_together():
    examples = TrainingExamples(Rows(), batch_size=4)
    for batches in (examples.batches(), examples.batches(limit=9, shard=(1, 2)), examples.take([82, 100, 99])):
        for ids, batch in batches:
            assert torch.equal(ids, batch["example_id"])
            assert torch.equal(ids, 100 - batch["x"].flatten().long())
    assert list(examples.take([])) == []


def test_ids_that_only_examples_have_are_read_as_they_come():
    data = Rows()
    examples = TrainingExamples(data)
    assert data.read == [0]  # which shows that they have ids
    assert seen(examples.batches(limit=3)) == [100, 93, 85]
    assert data.read == [0, 0, 7, 15]
    assert examples.index_of([85, 100]).tolist() == [15, 0]
    assert len(data.read) == 4
    assert examples.index_of([81]).tolist() == [19]  # not met so far: the rest is read, once
    assert sorted(data.read[4:]) == [i for i in range(N) if i not in (0, 7, 15)]
    assert examples.ids.tolist() == data.ids
    assert len(data.read) == 4 + N - 3


@pytest.mark.parametrize("limit", [None, 10, 1, 100])
@pytest.mark.parametrize("by_length", [False, True])
def test_shards_are_a_partition_without_padding(limit, by_length):
    examples = TrainingExamples(WithIds(pairs()))
    whole = seen(examples.batches(limit=limit))
    assert len(whole) == min(limit or N, N)
    assert limit != 10 or whole == [i * N // 10 for i in range(10)]
    shards = [seen(examples.batches(shard=(r, 3), limit=limit, batch_size=2, by_length=by_length)) for r in range(3)]
    assert sorted(i for shard in shards for i in shard) == whole
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_by_length_little_is_padding_and_nothing_is_left_out():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (400,), generator=generator).tolist()

    def padded(rows):
        width = max(len(row["input_ids"]) for row in rows)
        return torch.tensor([row["input_ids"] + [0] * (width - len(row["input_ids"])) for row in rows])

    examples = TrainingExamples(WithIds([{"input_ids": [1] * length} for length in lengths], padded), batch_size=8)

    def cost(**options):
        return sum(batch.numel() for _, batch in examples.batches(**options)) / sum(lengths)

    assert cost(by_length=True) < 1.1 < 1.6 < cost()
    assert sorted(seen(examples.batches(by_length=True))) == list(range(400))
    shortest_last = TrainingExamples(WithIds(pairs(), list), length=lambda each: each.example[0])
    assert seen(shortest_last.batches(by_length=True)) == list(range(N))[::-1]
    texts = [(TextRow("word " * i, None, i + 1, i), i) for i in range(N)]
    assert seen(TrainingExamples(texts, list, range(N)).batches(by_length=True)) == list(range(N))[::-1]


@pytest.mark.parametrize(("by_length", "ahead"), [(False, 2), (True, 100)])
def test_memory_is_flat_in_the_number_of_examples(by_length, ahead):
    for size in (100, 1600):
        data, done, Batch.most = Rows(size), 0, 0
        examples = TrainingExamples(data, Batch, range(size))
        for ids, batch in examples.batches(batch_size=2, by_length=by_length):
            assert len(data.read) - done <= ahead  # read, and not given out
            done += len(ids)
            del batch
        assert (done, Batch.most) == (size, 1)


class Augmented(Rows):
    """Draws from every global generator, as augmentations do."""

    def __getitem__(self, i):
        drawn = [float(torch.rand(())), random.random(), float(numpy.random.rand())]
        return {**super().__getitem__(i), "drawn": torch.tensor(drawn)}


def test_global_random_states_are_untouched_and_augmentations_the_same_in_each_pass():
    def states():
        return torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state())

    before = states()
    examples = TrainingExamples(Augmented())
    drawn = {}
    for batches in (examples.batches(), examples.batches(batch_size=3, shard=(1, 2)), examples.take([82, 97])):
        for ids, batch in batches:
            assert states() == before
            for i, values in zip(ids.tolist(), batch["drawn"].tolist(), strict=True):
                assert drawn.setdefault(i, values) == values
    assert len({tuple(values) for values in drawn.values()}) == N
    assert states() == before


# Bad input


def test_what_cannot_be_read_is_left_out_and_counted():
    for examples, named in (
        (TrainingExamples(Rows(broken=(0, 4, 22))), [0, 4, 22]),  # what has no id has its index
        (TrainingExamples(Rows(broken=(0, 4, 22)), ids=Rows().ids), [100, 96, 78]),
    ):
        kept = [i for i in Rows().ids if i not in (100, 96, 78)]
        for _ in range(2):
            assert seen(examples.batches()) == kept
        assert examples.unreadable.tolist() == named
        assert examples.error == "example 0: OSError: file 0 is damaged"
    assert list(examples.take([96])) == []
    assert TrainingExamples(Rows(broken=(0, 4, 22))).ids.tolist() == kept
    message = "None of {} training examples can be read: example 0: OSError: file 0 is damaged"
    with pytest.raises(ValueError, match=message.format(23)):
        list(TrainingExamples(Rows(broken=range(N)), ids=range(N)).batches())
    with pytest.raises(ValueError, match=message.format(10)):  # none of those that would show ids
        TrainingExamples(Rows(broken=range(N)))


@pytest.mark.parametrize(
    "data",
    [
        pairs(),
        Subset([{"x": i} for i in range(5)], [3, 1]),
        Table.from_dict({"x": [1, 2, 3]}).shuffle(seed=0),
        random_split(Table.from_dict({"x": [1, 2, 3]}), [2, 1])[0],
    ],
    ids=["tensors", "subset", "shuffled", "split"],
)
def test_without_ids_positions_do_not_stand_in_for_them(data):
    message = (
        r"have no `example_id` \(example 0, \w+\): wrap their data set, `data = WithIds\(dataset, collate_fn\)`.*id_col"
    )
    with pytest.raises(ValueError, match=message):
        TrainingExamples(data)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([{"example_id": 0}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingExamples(Stream()), r"\(Stream\) cannot be read by index, so .* map-style data set"),
        (
            lambda: TrainingExamples(type("Endless", (), {"__getitem__": None})()),
            r"\(Endless\) cannot be read",
        ),
        (lambda: TrainingExamples([{"a": 1}], id_column="b"), r"have no `id_column='b'` \(example 0, dict\)"),
        (
            lambda: TrainingExamples(pairs(), ids=[0, 1]),
            "`ids` does not hold one integer of 64 bits for each of",
        ),
        (lambda: TrainingExamples(pairs(2), ids=[7, 7]), r"1 ids .* more than once, 7 \(examples 0 and 1\)"),
        (
            lambda: TrainingExamples(pairs(), ids=range(N), batch_size=0),
            "`batch_size=0` must be a whole number of",
        ),
        (lambda: TrainingExamples(WithIds(pairs())).batches(shard=(2, 2)), r"`shard=\(2, 2\)` must be \(rank, number"),
        (lambda: TrainingExamples(WithIds(pairs())).batches(limit=0), "`limit=0` must be a whole number of at least 1"),
        (
            lambda: TrainingExamples(WithIds(pairs())).take([1, 77, 88]),
            "`ids`: there is no 77, 88 among the ids",
        ),
    ],
)
def test_what_cannot_serve_is_refused_with_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_ids_that_come_twice_or_are_missing_are_named_with_their_index():
    twice = TrainingExamples(Rows(ids=[*range(20), 3, 21, 22]))
    with pytest.raises(ValueError, match=r"1 ids .* 3 \(examples 3 and 20\) first"):
        list(twice.batches())
    missing = TrainingExamples(Rows(ids=[*range(20), None, 21, 22]), lambda rows: rows)
    with pytest.raises(ValueError, match="Example 20: `example_id` holds nothing, and an id is an integer"):
        list(missing.batches())


def test_a_loader_and_the_reader_give_the_same_examples_the_same_ids():
    data = WithIds(ConcatDataset([Rows(5), Rows(7)]), in_batch="always", id_column=None, collate_fn=as_pair)
    loader = DataLoader(data, batch_size=5, shuffle=True, collate_fn=data.collate)
    loaded = {i: x for x, ids in loader for i, x in zip(ids["example_id"].tolist(), x.tolist(), strict=True)}
    read = {i: x for ids, (x, _) in TrainingExamples(data).batches() for i, x in zip(ids.tolist(), x, strict=True)}
    assert loaded == {i: float(x) for i, x in read.items()}
    assert list(loaded) != sorted(loaded)


def as_pair(examples):
    return (torch.cat([each["x"] for each in examples]),)
