"""The leak probe tells a label from where tokens were selected, and only where it can be told."""

import torch

from lightning_interpret.functional.leak_probe import probe, shape_of


def drawn(size=200, length=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(10, length + 1, (size, 1), generator=generator)
    selectable = torch.arange(length) < lengths
    classes = torch.randint(0, 2, (size,), generator=generator)
    selected = (torch.rand(size, length, generator=generator) < 0.3) & selectable
    return selected, selectable, classes


def test_a_selection_that_knows_nothing_tells_nothing():
    selected, selectable, classes = drawn()
    accuracy, majority = probe(shape_of(selected, selectable), classes)
    assert majority == max(int(classes.sum()), len(classes) - int(classes.sum())) / len(classes)
    assert abs(accuracy - 0.5) < 0.12


def test_positions_and_counts_that_carry_the_label_are_found():
    selected, selectable, classes = drawn()
    places = torch.arange(selected.shape[1])
    for coded in (
        selected & ((places < 5) == (classes == 0)[:, None]),  # where
        selected & ((classes == 0)[:, None] | (places % 3 == 0)),  # how many
        selected & (places % 2 == 0) | (selectable & (classes == 0)[:, None] & (places % 2 == 0)),
    ):
        accuracy, _ = probe(shape_of(coded, selectable), classes)
        assert accuracy >= 0.8


def test_which_tokens_they_are_is_not_asked_and_neither_is_padding():
    selected, selectable, _ = drawn()
    wider = torch.nn.functional.pad(selected, (0, 7)), torch.nn.functional.pad(selectable, (0, 7))
    assert torch.equal(shape_of(selected, selectable), shape_of(*wider))


def test_shapes_by_hand():
    selected = torch.tensor([[0, 1, 1, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0]]).bool()
    selectable = torch.ones_like(selected)
    found = shape_of(selected, selectable)
    assert found[0, :5].tolist() == [3, 2, 1 / 8, 6 / 8, 3 / 8]
    assert found[0, 5:].tolist() == [0, 1 / 3, 1 / 3, 0, 0, 0, 1 / 3, 0]
    assert found.isfinite().all()


def test_few_rows_one_class_and_features_that_do_not_vary():
    selected, selectable, classes = drawn()
    shapes = shape_of(selected, selectable)
    assert probe(shapes[:19], classes[:19]) is None
    assert probe(shapes, torch.zeros_like(classes)) == (1.0, 1.0)
    accuracy, majority = probe(torch.ones_like(shapes), classes)
    assert 0 < accuracy <= majority + 0.1
