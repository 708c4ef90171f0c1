"""Ids that any data set and collate function carry, and how they are found again."""

import pickle
from collections import UserDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType

import pytest
import torch
from datasets import Dataset as Table
from datasets import DatasetDict, Image
from digits import DigitsTask
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from transformers import BatchEncoding
from transformers.utils import ModelOutput

from lightning_interpret.data import ReviewCorpus, ShapesDataset, WithIds, example_ids
from lightning_interpret.data.ids import collate_of

N = 10
X, Y = torch.arange(N).float() * 10, torch.arange(N) % 3
Pair = namedtuple("Pair", "x y")
Named = namedtuple("Named", "x example_id")


@dataclass
class Held:
    x: torch.Tensor
    example_id: torch.Tensor | None = None


@dataclass
class Output(ModelOutput):
    x: torch.Tensor | None = None


def mappings(size=N):
    return [{"x": float(X[i]), "y": int(Y[i])} for i in range(size)]


def as_held(rows):
    return Held(torch.tensor([row["x"] for row in rows]))


def as_named(rows):
    return Named(torch.tensor([row["x"] for row in rows]), None)


def as_pair(rows):
    return Pair(*(torch.tensor([row[name] for row in rows]) for name in "xy"))


def as_encoding(rows):
    return BatchEncoding(default_collate(rows))


def as_user_dict(rows):
    return UserDict(default_collate(rows))


def as_immutable(rows):
    return MappingProxyType(default_collate(rows))


def as_output(rows):
    return Output(x=torch.tensor([row["x"] for row in rows]))


def as_tensor(rows):
    return torch.tensor([row["x"] for row in rows])


def as_tuple(rows):
    return tuple(as_pair(rows))


def loaded(data, **options):
    return list(DataLoader(data, **{"batch_size": 4, "collate_fn": collate_of(data)} | options))


def by_id(batches):
    return {i: x for batch in batches for i, x in zip(batch["example_id"].tolist(), batch["x"].tolist(), strict=True)}


@pytest.mark.parametrize("collate", [None, as_encoding, as_user_dict, as_output])
def test_a_mapping_gets_the_key_and_stays_what_it_is(collate):
    data = WithIds(mappings(), collate)
    batches = loaded(data)
    assert [batch["example_id"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches[0]["example_id"].dtype is torch.long
    assert type(batches[0]) is type((collate or default_collate)(mappings()))
    assert by_id(batches) == {i: float(X[i]) for i in range(N)}


@pytest.mark.parametrize("collate", [as_held, as_named])
def test_a_field_of_that_name_is_filled(collate):
    batch = loaded(WithIds(mappings(), collate))[1]
    assert type(batch) is type(collate(mappings()))
    assert batch.example_id.tolist() == [4, 5, 6, 7]
    assert batch.x.tolist() == X[4:8].tolist()


def test_batches_without_a_place_stay_as_they_are_unless_ids_are_to_be_appended():
    for data, collate in ((TensorDataset(X, Y), None), (mappings(), as_pair), (mappings(), as_tuple)):
        (x, y), plain = loaded(WithIds(data, collate))[1], (collate or default_collate)([data[i] for i in range(4, 8)])
        assert torch.equal(x, plain[0])
        assert torch.equal(y, plain[1])
        x, y, more = batch = loaded(WithIds(data, collate, in_batch="always"))[1]
        assert torch.equal(x, plain[0])
        assert more["example_id"].tolist() == [4, 5, 6, 7]
        task = DigitsTask()
        assert task.example_ids(batch) == (4, 5, 6, 7)
        assert torch.equal(task.labels(batch), y)  # the ids are not taken for them
        assert task.example_ids(task.take(batch, torch.tensor([2]))) == (6,)
    assert torch.equal(loaded(WithIds(mappings(), as_tensor))[0], X[:4])
    x, more = loaded(WithIds(mappings(), as_tensor, in_batch="always"))[2]
    assert (x.tolist(), more["example_id"].tolist()) == ([80.0, 90.0], [8, 9])
    assert DigitsTask().example_ids(x) is None


def test_a_mapping_that_cannot_be_changed_becomes_a_dict():
    batches = loaded(WithIds(mappings(), as_immutable))
    assert type(batches[0]) is dict
    assert by_id(batches) == {i: float(X[i]) for i in range(N)}


@pytest.mark.parametrize("start", [None, "fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_ids_are_the_examples_own_in_any_order_and_any_worker(start):
    data = WithIds(mappings())
    generator = torch.Generator().manual_seed(0)
    options = {"multiprocessing_context": start, "num_workers": 2} if start else {}
    batches = loaded(data, shuffle=True, generator=generator, **options)
    assert [i for batch in batches for i in batch["example_id"].tolist()] != list(range(N))
    assert by_id(batches) == {i: float(X[i]) for i in range(N)}


def test_padding_of_a_distributed_sampler_has_the_id_of_what_it_repeats():
    data = WithIds(mappings(7))
    samplers = [DistributedSampler(data, num_replicas=2, rank=rank, seed=3) for rank in (0, 1)]
    seen = [batch["example_id"].tolist() for sampler in samplers for batch in loaded(data, sampler=sampler)]
    ids = [i for batch in seen for i in batch]
    assert len(ids) == 8  # one of them twice
    assert set(ids) == set(range(7))
    assert by_id(loaded(data, sampler=samplers[1])).items() <= {i: float(X[i]) for i in range(7)}.items()


def test_selections_of_it_keep_the_ids():
    data = WithIds(mappings())
    train, val = random_split(data, [7, 3], torch.Generator().manual_seed(0))
    ids = example_ids(train)
    assert sorted([*ids.tolist(), *example_ids(val).tolist()]) == list(range(N))
    assert by_id(loaded(train)) == {i: float(X[i]) for i in ids.tolist()}
    joined = ConcatDataset([Subset(train, [2, 0]), val])
    assert example_ids(joined).tolist() == [*ids[[2, 0]].tolist(), *example_ids(val).tolist()]
    assert by_id(loaded(joined)).keys() == set(example_ids(joined).tolist())


def test_a_selection_that_is_wrapped_has_the_indices_of_what_it_was_selected_from():
    part = Subset(Subset(mappings(), [9, 5, 3, 1]), [2, 0])
    assert by_id(loaded(WithIds(part))) == {3: 30.0, 9: 90.0}
    table = Table.from_list(mappings()).shuffle(seed=1).select([4, 2])
    batches = loaded(WithIds(table))
    assert by_id(batches) == {int(x / 10): x for x in batches[0]["x"].tolist()}
    assert example_ids(table) is None  # where its rows stand is no id


def test_what_has_ids_keeps_them():
    data = WithIds(mappings())
    again = WithIds(Subset(data, [3, 1]))
    assert again.example_ids.tolist() == [3, 1]
    assert by_id(loaded(again)) == {3: 30.0, 1: 10.0}
    assert WithIds(ShapesDataset(4)).example_ids.tolist() == [0, 1, 2, 3]
    assert example_ids(Subset(ReviewCorpus(4), [3, 1])).tolist() == [3, 1]
    lazy = WithIds([{"x": 1.0, "row": 5}, {"x": 2.0, "row": 7}], id_column="row")
    assert by_id(loaded(WithIds(lazy))) == {5: 1.0, 7: 2.0}


def test_it_resumes_pickles_and_reads_single_examples():
    data = pickle.loads(pickle.dumps(WithIds(mappings(), as_encoding)))
    assert data.collate == WithIds(mappings(), as_encoding).collate
    assert by_id(loaded(data, sampler=range(6, N))) == {i: float(X[i]) for i in range(6, N)}
    assert (data[-1].example_id, data[torch.tensor(2)].example_id, len(data)) == (9, 2, N)
    with pytest.raises(IndexError):
        data[N]
    copied = pickle.loads(pickle.dumps(data[4]))
    assert (copied.example_id, copied.example) == (4, data[4].example)


# An id column


def table(ids=(7, 3, 12, 5), **columns):
    return Table.from_dict({"row": list(ids), "x": [float(i) for i in ids], **columns})


def test_a_column_of_hugging_face_data_follows_the_order_of_its_rows():
    for shuffled in (table().shuffle(seed=0), table().shuffle(seed=0).with_format("torch"), table().select([3, 1])):
        ids = [int(row["row"]) for row in shuffled]
        assert example_ids(shuffled, "row").tolist() == ids
        assert by_id(loaded(WithIds(shuffled, id_column="row"))) == {i: float(i) for i in ids}
    assert example_ids(table()) is None
    renamed = table().rename_column("row", "example_id")
    assert example_ids(renamed).tolist() == [7, 3, 12, 5]
    assert example_ids(ConcatDataset([Subset(renamed, [1]), renamed.select([0])])).tolist() == [3, 7]
    assert WithIds(renamed).example_ids.tolist() == [7, 3, 12, 5]  # without being told


def test_no_row_is_decoded_for_the_ids():
    column = {"bytes": b"no picture", "path": None}
    pictures = table(picture=[column] * 4).cast_column("picture", Image())
    assert example_ids(pictures, "row").tolist() == [7, 3, 12, 5]
    with pytest.raises(OSError, match="cannot identify image"):
        pictures[0]


def test_a_column_that_only_examples_have_is_read_with_them():
    rows = [{"x": 1.0, "row": 5}, {"x": 2.0, "row": torch.tensor(7)}]
    data = WithIds(rows, id_column="row")
    assert data.example_ids is None
    assert by_id(loaded(data)) == {5: 1.0, 7: 2.0}
    assert WithIds([Held(X, 11)], as_held, id_column="example_id")[0].example_id == 11
    with pytest.raises(ValueError, match=r"Example 0: `row` holds '5' \(str\), and an id is an integer of 64 bits"):
        WithIds([{"row": "5"}], id_column="row")[0]
    with pytest.raises(ValueError, match="Example 1: `rows` holds nothing"):
        WithIds(rows, id_column="rows")[1]


# What is refused


class Stream(IterableDataset):
    def __iter__(self):
        return iter(mappings())

    def __len__(self):
        return N


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: WithIds(table(), id_column="rwo"), r"`id_column='rwo'` does not exist. Did you mean 'row'"),
        (lambda: WithIds(table(), id_column="x"), "`x` does not hold one integer of 64 bits for each of the 4"),
        (lambda: WithIds(Table.from_dict({"row": [1, None]}), id_column="row"), "`row` does not hold one integer"),
        (
            lambda: WithIds(table([3, 1, 3, 1, 1]), id_column="row"),
            r"2 ids of the data set come more than once, 1 \(examples 1 and 3\), 3 \(examples 0 and 2\) first",
        ),
        (
            lambda: example_ids(ConcatDataset([WithIds(mappings(2)), WithIds(mappings(3))])),
            r"2 ids .* 0 \(examples 0 and 2\).* wrapped as a whole, `WithIds\(ConcatDataset\(\[a, b\]\)\)`",
        ),
        (lambda: example_ids(WithIds(mappings()), "row"), r"`id_column='row'`: the data set \(WithIds\) has ids"),
        (lambda: WithIds(DatasetDict(train=table())), r"a mapping \(DatasetDict\) of train: give one of them"),
        (lambda: WithIds(iter(mappings())), r"\(list_iterator\) cannot be read by index.* `__getitem__` and `__len__`"),
        (lambda: WithIds(Stream()), r"\(Stream\) cannot be read by index"),
        (lambda: WithIds(table().to_iterable_dataset()), r"\(IterableDataset\) cannot be read by index"),
    ],
)
def test_what_cannot_serve_is_refused_with_what_to_do(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_ids_that_the_batch_has_already_are_kept_only_if_they_are_the_same():
    same = [{"x": 1.0, "example_id": 0}, {"x": 2.0, "example_id": 1}]
    assert by_id(loaded(WithIds(same))) == {0: 1.0, 1: 2.0}
    with pytest.raises(ValueError, match=r"`example_id` that is not the one of `WithIds`: use the data set as it is"):
        loaded(WithIds(same[::-1]))
    assert by_id(loaded(WithIds(same[::-1], id_column="example_id"))) == {0: 1.0, 1: 2.0}


FORGOTTEN = r"`data = WithIds\(dataset, collate_fn\)`, then `DataLoader\(data, collate_fn=data.collate\)`"


@pytest.mark.parametrize("collate", [None, as_pair, lambda rows: list(zip(*rows, strict=True))])
@pytest.mark.parametrize("data", [mappings(), TensorDataset(X, Y)], ids=["mappings", "tuples"])
def test_a_loader_without_its_collate_function_is_told_so(data, collate):
    with pytest.raises(TypeError, match=FORGOTTEN):
        next(iter(DataLoader(WithIds(data), batch_size=4, collate_fn=collate)))


def test_an_attribute_that_an_example_with_an_id_has_not_says_so_too():
    with pytest.raises(AttributeError, match=FORGOTTEN):
        _ = WithIds([Held(X)])[0].x


def test_its_collate_function_on_other_examples_says_so():
    with pytest.raises(TypeError, match=r"given examples without ids \(dict\): wrap their data set in `WithIds` too"):
        loaded(mappings(), collate_fn=WithIds(mappings()).collate)


def test_a_step_that_passes_its_batch_on_is_given_it_as_it_is():
    data = WithIds(mappings(), in_batch="never")
    assert all("example_id" not in batch for batch in loaded(data))
    assert example_ids(data).tolist() == list(range(len(data)))
    with pytest.raises(ValueError, match="`in_batch='none'` does not exist"):
        WithIds(mappings(), in_batch="none")
