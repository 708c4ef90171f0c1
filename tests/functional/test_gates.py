"""Gates: what is drawn has the distribution it claims, with the gradient of it, and costs what it is said to cost."""

import itertools

import pytest
import torch
from torch.autograd import gradcheck

from lightning_interpret.functional import gates
from lightning_interpret.functional.gates import HardKumaraswamy

SHAPES = [(0.3, 0.3), (1.0, 3.0), (2.0, 0.5), (0.69, 0.69), (6.0, 40.0)]
DRAWS = 200_000


def drawn(a, b, seed=0):
    """Draw z by PyTorch's own Kumaraswamy, in double precision."""
    torch.manual_seed(seed)
    plain = torch.distributions.Kumaraswamy(torch.tensor(a).double(), torch.tensor(b).double())
    return (-0.1 + 1.2 * plain.sample((DRAWS,))).clamp(0, 1)


def exact_mean(a, b):
    """Integrate P(z > x) by the midpoint rule on many points, in double precision."""
    places = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    k = (places + 0.1) / 1.2
    return float((1 - k**a).clamp(min=0).pow(b).mean())


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_hard_kumaraswamy_says_what_its_samples_are(a, b):
    z, law = drawn(a, b), HardKumaraswamy(torch.tensor(a), torch.tensor(b))
    for value, share in ((law.zero, z == 0), (law.one, z == 1), (law.open, z != 0), (law.mean, z)):
        assert float(value) == pytest.approx(float(share.double().mean()), abs=5e-3)
    own = HardKumaraswamy(torch.full((DRAWS,), a), torch.full((DRAWS,), b)).sample()
    for moment in (lambda z: z == 0, lambda z: z == 1, lambda z: z, lambda z: z**2):
        assert float(moment(own).double().mean()) == pytest.approx(float(moment(z).double().mean()), abs=5e-3)


def test_the_mean_is_not_that_of_the_variable_before_it_is_stretched():
    law = HardKumaraswamy(torch.tensor(1.0), torch.tensor(3.0))
    assert float(law.mean) == pytest.approx(0.211, abs=1e-3)  # and not 1/4
    assert float(law.mean) == pytest.approx(exact_mean(1.0, 3.0), abs=1e-6)


@pytest.mark.parametrize("a", [1e-6, 0.05, 1.0, 12.0, 100.0])
@pytest.mark.parametrize("b", [1e-6, 0.05, 1.0, 12.0, 100.0])
def test_hard_kumaraswamy_is_right_in_single_precision_at_the_ends_of_its_parameters(a, b):
    parameters = torch.tensor([a, b], requires_grad=True)
    law = HardKumaraswamy(*parameters)
    for value, k in ((law.open, 1 / 12), (law.one, 11 / 12)):
        exact = (-torch.expm1(a * torch.tensor(k).double().log())) ** b
        assert value.item() == pytest.approx(exact.item(), abs=2e-5)
    assert law.mean.item() == pytest.approx(exact_mean(a, b), abs=2e-5)
    for uniform in (0.0, 0.5, 1.0):
        z = law.sample(torch.tensor(uniform))
        assert 0 <= z.item() <= 1
        parts = torch.stack([law.open, law.one, law.mean, z])
        assert torch.autograd.grad(parts.sum(), parameters)[0].isfinite().all()


def test_gradients_of_hard_kumaraswamy():
    parameters = torch.tensor([*SHAPES, (3.0, 2.0)], dtype=torch.float64, requires_grad=True)
    uniform = torch.linspace(0.3, 0.6, 6, dtype=torch.float64)
    for read in ("open", "zero", "one", "mean"):
        assert gradcheck(lambda each, read=read: getattr(HardKumaraswamy(*each.T), read), parameters)
    assert gradcheck(lambda each: HardKumaraswamy(*each.T).sample(uniform), parameters)


def test_a_sample_s_gradient_is_that_of_the_mean_in_expectation():
    parameters = torch.tensor([0.8, 1.2], dtype=torch.float64, requires_grad=True)
    law = HardKumaraswamy(*parameters)
    places = (torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS
    many = HardKumaraswamy(law.a.expand(DRAWS), law.b.expand(DRAWS)).sample(places)
    for found, expected in zip(*(torch.autograd.grad(x.mean(), parameters) for x in (many, law.mean)), strict=True):
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_the_likeliest_is_a_bound_or_the_mean():
    law = HardKumaraswamy(torch.tensor([0.05, 40.0, 3.0]), torch.tensor([2.0, 0.02, 3.0]))
    assert law.likeliest.tolist() == [0.0, 1.0, law.mean[2].item()]
    assert law.likeliest[2] not in (0.0, 1.0)


def test_logits_make_parameters_within_their_bounds():
    law = HardKumaraswamy.of_logits(torch.tensor([[-1e4, 1e4], [0.0, 1.0]]))
    assert law.a.tolist() == pytest.approx([1e-6, torch.nn.functional.softplus(torch.tensor(0.0)).item()])
    assert law.b.tolist() == pytest.approx([100.0, torch.nn.functional.softplus(torch.tensor(1.0)).item()])


@pytest.mark.parametrize("logit", [-3.0, -0.4, 0.0, 1.1])
@pytest.mark.parametrize("draw", [gates.binary_concrete, gates.bernoulli])
def test_a_binary_gate_is_open_as_often_as_its_logit_says(draw, logit):
    torch.manual_seed(0)
    z = draw(torch.full((DRAWS,), logit))
    assert set(z.tolist()) == {0.0, 1.0}
    assert float(z.mean()) == pytest.approx(float(torch.tensor(logit).sigmoid()), abs=5e-3)


def test_the_binary_concrete_has_the_gradient_of_its_relaxation():
    logits = torch.tensor([-1.0, 0.5, 1e4, -1e4], dtype=torch.float64, requires_grad=True)
    uniform = torch.tensor([0.8, 0.4, 0.1, 0.9], dtype=torch.float64)
    gradient = torch.autograd.grad(gates.binary_concrete(logits, 0.7, uniform).sum(), logits)[0]
    relaxed = torch.sigmoid((logits + torch.logit(uniform)) / 0.7)
    torch.testing.assert_close(gradient, torch.autograd.grad(relaxed.sum(), logits)[0])
    assert gradient[2:].tolist() == [0.0, 0.0]


def test_log_probabilities_are_those_of_bernoulli():
    logits = torch.tensor([-20.0, -1.0, 0.0, 3.0, 20.0]).double()
    for z in (torch.zeros(5), torch.ones(5)):
        expected = torch.distributions.Bernoulli(logits=logits).log_prob(z.double())
        torch.testing.assert_close(gates.log_probability(z.double(), logits), expected)


def _losses(z):
    return 5 + (z * torch.tensor([1.0, -2.0, 0.5])).sum(dim=1) + 1.5 * z[:, 0] * z[:, 2]


def _estimate(logits, draws, **options):
    z = gates.bernoulli(logits.expand(draws, 3))
    log_prob = gates.log_probability(z, logits.expand(draws, 3)).sum(dim=1)
    return torch.autograd.grad(gates.score_function(_losses(z), log_prob, **options), logits)[0]


def test_the_score_function_has_the_gradient_of_the_expected_loss_with_less_variance():
    torch.manual_seed(0)
    logits = torch.tensor([0.3, -0.5, 1.0], requires_grad=True)
    every = torch.tensor([*itertools.product([0.0, 1.0], repeat=3)])
    probability = gates.log_probability(every, logits.expand(8, 3)).sum(dim=1).exp()
    exact = torch.autograd.grad((probability * _losses(every)).sum(), logits)[0]
    torch.testing.assert_close(_estimate(logits, DRAWS), exact, atol=1e-2, rtol=0)
    torch.testing.assert_close(_estimate(logits, DRAWS, baseline=0.0), exact, atol=3e-2, rtol=0)
    ours, none = (torch.stack([_estimate(logits, 8, **o) for _ in range(500)]) for o in ({}, {"baseline": 0.0}))
    torch.testing.assert_close(ours.mean(dim=0), exact, atol=0.05, rtol=0)  # no bias in small batches
    assert (ours.var(dim=0) < none.var(dim=0) / 3).all()
    assert _estimate(logits, 1).isfinite().all()


def test_expected_transitions_are_those_of_every_selection_weighed():
    torch.manual_seed(0)
    selectable = torch.tensor([[1, 1, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]]).bool()
    p = torch.rand(5, 4, dtype=torch.float64)
    expected = torch.zeros(5, dtype=torch.float64)
    for row, z in itertools.product(range(5), itertools.product([0, 1], repeat=4)):
        places = [i for i in range(3) if selectable[row, i] and selectable[row, i + 1]]
        weight = torch.stack([p[row, i] if z[i] else 1 - p[row, i] for i in range(4)]).prod()
        expected[row] += weight * sum(abs(z[i] - z[i + 1]) for i in places) / max(len(places), 1)
    torch.testing.assert_close(gates.expected_transitions(p, selectable), expected)
    hard = (p > 0.5).double()
    torch.testing.assert_close(gates.transitions(hard, selectable), gates.expected_transitions(hard, selectable))


def test_costs_are_never_over_padding():
    z, selectable = torch.tensor([[0.0, 1, 1, 0, 0, 0]]), torch.ones(1, 6).bool()
    padded, there = torch.nn.functional.pad(z, (3, 200)), torch.nn.functional.pad(selectable, (3, 200))
    for cost in (gates.share, gates.transitions, gates.expected_transitions):
        assert torch.equal(cost(z, selectable), cost(padded, there))
    assert gates.transitions(z, selectable).item() == pytest.approx(2 / 5)
    assert gates.transitions(z[:, :1], selectable[:, :1]).item() == 0.0


def test_top_k_is_what_is_selected_with_the_gradient_of_what_is_near_the_edge():
    scores = torch.tensor([[4.0, -9.0, 0.5, 0.1, 7.0], [1.0, 2.0, 3.0, 0.0, 0.0]], dtype=torch.float64)
    selectable = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]]).bool()
    scores.requires_grad_()
    z = gates.top_k(scores, selectable, 0.6, temperature=0.5)
    assert z.tolist() == [[1, 0, 1, 0, 1], [0, 1, 0, 0, 0]]
    gradient = torch.autograd.grad((z * torch.tensor([1.0, 1, 2, -1, 1])).sum(), scores)[0]
    assert gradient[0].abs().argmax() in (2, 3)
    assert gradient[0, 1].abs() < 1e-6
    assert not gradient[1, 2:].any()
    shifted = torch.autograd.grad((gates.top_k(scores + 50, selectable, 0.6, 0.5)).sum(), scores)[0]
    torch.testing.assert_close(shifted, torch.autograd.grad(gates.top_k(scores, selectable, 0.6, 0.5).sum(), scores)[0])
    assert gradcheck(lambda s: gates.edge(s, selectable, 0.6), scores)
    assert gates.edge(scores, selectable, 0.6)[:, 0].tolist() == [0.3, 1.5]
    assert gates.edge(scores, torch.zeros_like(selectable), 0.6).tolist() == [[0.0], [0.0]]
