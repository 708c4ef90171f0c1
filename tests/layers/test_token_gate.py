"""Token gates: what they return is masked, finite and deterministic at evaluation."""

import torch

from lightning_interpret.layers.token_gate import TokenGate

B, T, D = 4, 7, 5


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([7, 4, 1, 0])
    return torch.randn(B, T, D, generator=generator), torch.arange(T) < lengths[:, None]


def test_a_token_that_is_not_selectable_gets_nothing_and_a_row_of_them_is_no_error():
    torch.manual_seed(0)
    features, selectable = batch()
    gate = TokenGate(D)
    for mode in (True, False):
        selection = gate.train(mode)(features, selectable)
        assert not selection.z[~selectable].any()
        assert not selection.probabilities[~selectable].any()
        assert float(selection.rate[3]) == float(selection.transitions[3]) == 0.0


def test_evaluation_is_deterministic_and_training_is_not():
    torch.manual_seed(0)
    features, selectable = batch()
    gate = TokenGate(D)
    assert len({tuple(gate(features, selectable).z.flatten().tolist()) for _ in range(20)}) > 1
    gate.eval()
    assert torch.equal(gate(features, selectable).z, gate(features, selectable).z)
