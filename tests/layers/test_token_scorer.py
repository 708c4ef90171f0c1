"""The light generator: a token's features do not depend on padding, nor on what may not be selected."""

import pytest
import torch
from torch.nn import functional as F

from lightning_interpret.functional.layers import last_linear
from lightning_interpret.layers.token_gate import TokenGate
from lightning_interpret.layers.token_scorer import TokenScorer


def scorer_of(**options):
    torch.manual_seed(0)
    return TokenScorer(6, **options)


def test_a_row_is_what_it_is_alone_and_however_far_it_is_padded():
    generator = torch.Generator().manual_seed(0)
    scorer, lengths = scorer_of().double(), [9, 5, 1]
    embeddings = torch.randn(3, 9, 6, generator=generator, dtype=torch.float64)
    selectable = torch.arange(9) < torch.tensor(lengths)[:, None]
    together = scorer(embeddings, selectable)
    for i, length in enumerate(lengths):
        for before, after in ((0, 0), (0, 30), (7, 3)):
            row = F.pad(embeddings[i : i + 1, :length], (0, 0, before, after), value=float("nan"))
            alone = scorer(row, F.pad(selectable[i : i + 1, :length], (before, after)))
            torch.testing.assert_close(alone[0, before : before + length], together[i, :length])
            assert not alone[0, before + length :].any()


def test_what_may_not_be_selected_says_nothing_and_neighbours_say_something():
    embeddings = torch.randn(1, 8, 6)
    selectable = torch.tensor([[0, 1, 1, 1, 1, 1, 1, 0]]).bool()
    scorer = scorer_of()
    before = scorer(embeddings, selectable)
    other = embeddings.clone()
    other[0, [0, 7]] = 100.0
    assert torch.equal(scorer(other, selectable), before)
    other[0, 4] += 1.0
    moved = (scorer(other, selectable) != before).any(dim=-1)[0]
    assert moved.tolist() == [False, False, True, True, True, True, True, False]  # two convolutions over three tokens


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gate_reads_it_and_gradients_are_finite_where_there_is_nothing(dtype):
    scorer = scorer_of(hidden=5, layers=3, kernel=5).to(dtype)
    embeddings = torch.randn(2, 4, 6, dtype=dtype, requires_grad=True)
    selectable = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]]).bool()
    features = scorer(embeddings, selectable)
    assert features.shape == (2, 4, scorer.hidden)
    assert features.dtype == dtype
    selection = TokenGate(scorer.hidden)(features, selectable)
    (selection.rate.sum() + selection.z.sum()).backward()
    assert embeddings.grad.isfinite().all()
    assert embeddings.grad[0, :3].any()
    assert all(each.grad.isfinite().all() for each in scorer.parameters())


def test_neither_it_nor_a_gate_is_taken_for_the_head():
    assert last_linear(torch.nn.Sequential(scorer_of(), TokenGate(6))) is None


def test_bad_options_are_refused_by_name():
    assert scorer_of().hidden == 6
    assert TokenScorer(300).hidden == 128
    with pytest.raises(ValueError, match=r"`kernel=4` must be odd"):
        TokenScorer(6, kernel=4)
    with pytest.raises(ValueError, match=r"`layers=0` must be a whole number of at least 1"):
        TokenScorer(6, layers=0)
