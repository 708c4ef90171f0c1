from collections import OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field

import pytest
import torch
from tiny import Bag, batch_of, wordpiece
from torch import Tensor
from torch.utils.data import default_collate
from transformers import BatchEncoding

from lightning_interpret.tasks import batches

Named = namedtuple("Named", ["input_ids", "labels", "texts"])


@dataclass
class Own:
    input_ids: Tensor
    labels: Tensor
    texts: list
    weight: float = 0.5
    computed: int = field(init=False, default=3)


@dataclass(frozen=True)
class Frozen:
    input_ids: Tensor
    labels: Tensor
    texts: list


IDS, LABELS, TEXTS = torch.tensor([[1, 2], [3, 4], [5, 6]]), torch.tensor([0, 1, 2]), ["a", "b", "c"]
CONTAINERS = {
    "tuple": (IDS, LABELS, TEXTS),
    "list": [IDS, LABELS, TEXTS],
    "dict": {"input_ids": IDS, "labels": LABELS, "texts": TEXTS},
    "ordered": OrderedDict(input_ids=IDS, labels=LABELS, texts=TEXTS),
    "encoding": BatchEncoding({"input_ids": IDS, "labels": LABELS, "texts": TEXTS}),
    "namedtuple": Named(IDS, LABELS, TEXTS),
    "dataclass": Own(IDS, LABELS, TEXTS),
    "frozen": Frozen(IDS, LABELS, TEXTS),
    "nested": ({"input_ids": IDS, "more": [Named(IDS, LABELS, TEXTS)]}, (LABELS, TEXTS)),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("index", [[2], [1, 1, 0, 2], []])
def test_take_gathers_and_repeats(name, index):
    batch = CONTAINERS[name]
    taken = batches.take(batch, torch.tensor(index, dtype=torch.long))
    assert type(taken) is type(batch)
    found = list(batches.leaves(taken))
    assert len(found) == len(list(batches.leaves(batch)))
    for leaf in found:
        if isinstance(leaf, Tensor):
            assert leaf.tolist() in (IDS[index].tolist(), LABELS[index].tolist())
        elif isinstance(leaf, list):
            assert leaf == [TEXTS[i] for i in index]
        else:
            assert leaf == 0.5
    assert batch is CONTAINERS[name]  # and the batch itself is what it was
    assert IDS.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_take_leaves_what_does_not_go_by_example():
    batch = {"ids": IDS, "scale": torch.tensor(2.0), "table": torch.zeros(7, 2), "name": "abc", "n": 3, "none": None}
    taken = batches.take(batch, torch.tensor([0]))
    assert taken["table"] is batch["table"]
    assert taken["scale"] is batch["scale"]
    assert (taken["name"], taken["n"], taken["none"]) == ("abc", 3, None)


@pytest.mark.parametrize("name", CONTAINERS)
def test_clone_shares_no_memory(name):
    cloned = batches.clone(CONTAINERS[name])
    assert type(cloned) is type(CONTAINERS[name])
    for leaf in batches.leaves(cloned):
        if isinstance(leaf, Tensor):
            leaf.zero_()
    assert IDS.tolist() == [[1, 2], [3, 4], [5, 6]]
    assert LABELS.tolist() == [0, 1, 2]


def test_clone_of_inference_tensors_can_be_trained_on():
    with torch.inference_mode():
        batch = {"x": torch.ones(2, 2), "deep": [(torch.ones(2),)]}
    assert not any(leaf.is_inference() for leaf in batches.leaves(batches.clone(batch)))


def test_full_precision_reaches_every_leaf_in_half_precision():
    batch = {"a": torch.ones(2, dtype=torch.bfloat16), "b": [(torch.ones(2, dtype=torch.float16), IDS)], "c": "x"}
    found = batches.to_full_precision(batch)
    assert found["a"].dtype == found["b"][0][0].dtype == torch.float32
    assert found["b"][0][1] is IDS
    double = torch.ones(2, dtype=torch.float64)
    assert batches.to_full_precision((double,))[0] is double


@pytest.mark.parametrize("name", CONTAINERS)
def test_batch_size(name):
    assert batches.batch_size(CONTAINERS[name]) == 3


@pytest.mark.parametrize("batch", [{}, {"a": torch.tensor(1.0)}, ["a", "b"], "text", None])
def test_a_batch_without_examples_has_no_size(batch):
    with pytest.raises(ValueError, match="holds no tensor whose first dimension is the examples"):
        batches.batch_size(batch)


def test_what_a_loader_makes_of_texts_is_taken():
    """``default_collate`` leaves texts a list in a mapping, and a tuple in a tuple."""
    mapping = default_collate([{"x": torch.tensor(i), "text": t} for i, t in enumerate("abc")])
    assert batches.take(mapping, torch.tensor([2, 0]))["text"] == ["c", "a"]
    pair = default_collate([(torch.tensor(i), t) for i, t in enumerate("abc")])
    assert list(batches.take(pair, torch.tensor([2, 0]))[1]) == ["c", "a"]


def test_a_default_dict_is_taken():
    batch = defaultdict(list, ids=IDS)
    assert batches.take(batch, torch.tensor([1]))["ids"].tolist() == [[3, 4]]


@pytest.mark.parametrize("name", ["dict", "encoding", "namedtuple", "dataclass"])
def test_named_batches_as_a_mapping(name):
    found = batches.as_mapping(CONTAINERS[name])
    assert found["input_ids"] is IDS
    assert found["labels"] is LABELS
    assert found["texts"] is TEXTS


MASK = torch.tensor([[1, 1], [1, 0], [1, 1]])


@pytest.mark.parametrize("kind", [tuple, list])
def test_tuples_are_inputs_first_and_labels_last(kind):
    assert batches.as_mapping(kind([IDS, MASK, LABELS])) == {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}
    assert batches.as_mapping(kind([IDS, LABELS])) == {"input_ids": IDS, "labels": LABELS}
    assert batches.as_mapping(kind([IDS, MASK])) == {"input_ids": IDS, "attention_mask": MASK}
    lengths = torch.tensor([2, 1, 2])
    assert batches.as_mapping(kind([IDS, lengths, LABELS]))["labels"] is LABELS


@pytest.mark.parametrize("kind", [dict, BatchEncoding])
def test_named_inputs_and_labels(kind):
    found = batches.as_mapping((kind({"input_ids": IDS, "attention_mask": MASK}), LABELS))
    assert found == {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS}


def test_a_tensor_is_ids():
    assert batches.as_mapping(IDS) == {"input_ids": IDS}


@pytest.mark.parametrize("batch", ["a text", 3, None, ()])
def test_what_has_no_names_asks_for_a_task(batch):
    with pytest.raises(ValueError, match=r"whose parts have no names: give a `task=`"):
        batches.as_mapping(batch)


def test_parts_by_name():
    assert batches.get({"a": None, "b": 2}, "a", "b") == 2
    assert batches.get(CONTAINERS["encoding"], "texts") is TEXTS
    assert batches.get(CONTAINERS["dataclass"], "weight") == 0.5
    assert batches.get(CONTAINERS["namedtuple"], "texts") is TEXTS
    assert batches.get((IDS, LABELS), "example_id", "count") is None  # a method of tuples is no part


def test_an_encoded_batch_is_taken_whole():
    batch = batch_of(wordpiece(), labels=[1, 0], example_ids=[5, 6])
    taken = batches.take(batch, torch.tensor([1, 1, 0]))
    assert isinstance(taken, BatchEncoding)
    assert taken["example_id"].tolist() == [6, 6, 5]
    assert taken["labels"].tolist() == [0, 0, 1]
    assert taken["offset_mapping"].shape == (3, 15, 2)
    assert len(taken["note"]) == 3
    logits = Bag()(taken["input_ids"], taken["attention_mask"])
    assert torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("left", [False, True])
def test_a_batch_closes_up(left):
    batch = (
        {"input_ids": torch.tensor([[5, 6, 7, 8], [5, 6, 7, 8]]), "note": ["a", "b"], "labels": torch.tensor([1, 0])},
        torch.arange(16).reshape(2, 4, 2),
    )
    kept = torch.tensor([[True, False, True, True], [False, True, False, False]])
    ids = batch[0]["input_ids"]
    named, offsets = batches.close_up(batch, kept, left=left, fill=lambda leaf: 9 if leaf is ids else 0)
    assert named["input_ids"].tolist() == ([[5, 7, 8], [9, 9, 6]] if left else [[5, 7, 8], [6, 9, 9]])
    assert offsets[0].tolist() == [[0, 1], [4, 5], [6, 7]]
    assert offsets[1, -1 if left else 0].tolist() == [10, 11]
    assert offsets[1].sum() == 21
    assert named["note"] == ["a", "b"]
    assert named["labels"].tolist() == [1, 0]


def test_a_batch_of_which_nothing_is_left_is_one_column_of_padding():
    batch = batches.close_up({"ids": torch.tensor([[5, 6]])}, torch.zeros(1, 2, dtype=torch.bool))
    assert batch["ids"].tolist() == [[0]]
