"""What has no rule is refused by name; other threads see nothing, and nothing is left behind."""

import contextlib
import threading

import pytest
import torch
from relevances import propagate
from tiny import batch_of, classifier, tokenizer_for
from torch import nn
from torch.nn import functional as F

from lightning_interpret.functional.relevance import RelevanceError, Rule, relevance


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


@torch.jit.script
def scripted(x):
    return x.exp()


class Runs(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.first, self.odd = nn.Linear(3, 4), Odd(function)

    def forward(self, x):
        return self.odd(self.first(x))


class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.function(x)


REFUSED = {
    "exp": lambda x: x.exp(),
    "log_softmax": lambda x: F.log_softmax(x, dim=-1),
    "logsumexp": lambda x: x.logsumexp(dim=-1, keepdim=True),
    "cosine_similarity": lambda x: F.cosine_similarity(x[:, None], x[:, :, None], dim=0),
    "prod": lambda x: x.prod(dim=-1, keepdim=True),
    "log": lambda x: x.abs().log().T.T,
    "grid_sampler": lambda x: F.grid_sample(x[None, None], x.view(1, 1, 4, 2))[0, 0],
    "Doubled": lambda x: Doubled.apply(x) + 1,
    "ExpBackward": lambda x: scripted(x) + 1,
    "softmax": lambda x: x.softmax(dim=-1),
    "dropout": lambda x: F.dropout(x, 0.5, training=True),
    "batch_norm": lambda x: F.batch_norm(x, None, None, training=True),
    "scaled_dot_product_attention": lambda x: F.scaled_dot_product_attention(
        x[:, None], x[:, None], x[:, None], dropout_p=0.1
    ),
    "div": lambda x: torch.div(x, 2, rounding_mode="floor"),
    "pow": lambda x: 2 * x ** x.abs(),
    "sigmoid": lambda x: (x + 0).rsqrt_(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_operation_without_a_rule_is_refused_by_name(name):
    net, x = Runs(REFUSED[name]), torch.rand(2, 3, requires_grad=True)
    named = "rsqrt" if name == "sigmoid" else name
    with pytest.raises(RelevanceError, match=rf"(?s)cannot pass `{named}.*`.*Explain a layer after it"):
        propagate(net, x, "epsilon")


def test_the_message_names_the_module():
    net = Runs(REFUSED["exp"])
    with pytest.raises(RelevanceError, match=r"`exp` \(called by Odd `odd`\): there is no rule for it"):
        propagate(net, torch.rand(2, 3), "epsilon")


def test_softmax_says_which_rules_serve_it():
    with pytest.raises(RelevanceError, match=r"`softmax`.*use rule='attn_lrp' or 'cp_lrp'"):
        propagate(Runs(REFUSED["softmax"]), torch.rand(2, 3), "gamma")


def test_a_packed_sequence_is_refused():
    layer, x = nn.LSTM(3, 2, batch_first=True), torch.rand(2, 4, 3, requires_grad=True)
    with pytest.raises(RelevanceError, match=r"`pack_padded_sequence`.*pad the batch"), relevance(layer, "epsilon"):
        layer(nn.utils.rnn.pack_padded_sequence(x * 1, [4, 2], batch_first=True))


def test_what_leaves_no_gradient_passes():
    net = Runs(
        lambda x: x * (x.exp() > 0) + x.detach().exp() + float(x.detach().sum()) + x.argmax() + len(x) + x.size(0)
    )
    found, _, absorbed = propagate(net, torch.rand(2, 3), "epsilon")
    assert set(absorbed) >= {"constants", "bias"}
    assert float(found.abs().max()) > 0


def test_a_score_that_no_relevance_can_leave_is_refused():
    x = torch.rand(2, 3, requires_grad=True)
    with relevance(rule="epsilon") as scope:
        score = x.detach().sum(dim=1)
    with pytest.raises(ValueError, match="No relevance reaches the layer"):
        scope.relevance(score, x)
    with relevance(rule="epsilon") as scope:
        inside = x.sum(dim=1)
    with pytest.raises(RelevanceError, match="called outside of the scope"):
        scope.relevance(inside.exp(), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "attnlrp"}, r"`rule='attnlrp'` does not exist\. Did you mean 'attn_lrp'"),
        ({"rule": "gamma", "gamma": -1.0}, r"`gamma=-1.0` must be 0 or more"),
        ({"rule": "epsilon", "epsilon": -1.0}, r"`epsilon=-1.0` must be 0 or more"),
        ({"rule": "epsilon", "gamma": 0.1}, r"`gamma=0.1` has no meaning with rule='epsilon'"),
        ({"rule": "epsilon", "bias": "drop"}, r"`bias='drop'` does not exist"),
    ],
)
def test_wrong_rules_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Rule.named(**options)


def test_layers_need_their_module():
    with pytest.raises(ValueError, match=r"`layers=\['0'\]` needs the `module`"):
        relevance(rule="epsilon", layers={"0": Rule()}).__enter__()


def hooks(module):
    return [len(store) for part in module.modules() for kind, store in vars(part).items() if kind.endswith("_hooks")]


def test_nothing_is_left_behind_when_a_rule_is_missing():
    net, x = Runs(REFUSED["exp"]), torch.rand(2, 3)
    net.odd.register_forward_hook(lambda *_: None)
    before = hooks(net), net(x)
    for _ in range(2):
        with pytest.raises(RelevanceError), relevance(net, "epsilon", layers={"first": Rule("gamma")}):
            net(x.clone().requires_grad_()).sum()
    assert hooks(net) == before[0]
    assert torch.equal(net(x), before[1])
    assert all(weight.requires_grad and weight.grad is None for weight in net.parameters())
    y = x.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(net(y).sum(), y)[0], torch.autograd.grad(net(y).sum(), y)[0])
    assert torch.overrides._get_current_function_mode_stack() == []


def test_the_rule_of_a_part_ends_with_it_even_where_it_raises():
    class Tries(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(7, 7), nn.Linear(3, 2)

        def forward(self, x):
            with contextlib.suppress(RuntimeError):
                x = self.first(x)
            return self.second(x)

    net, x = Tries(), torch.rand(2, 3)
    expected = propagate(net, x, "epsilon")[0]
    assert torch.equal(propagate(net, x, "epsilon", layers={"first": Rule("identity")})[0], expected)


def test_two_threads_have_a_scope_each():
    """Both run the same module at the same time; the hooks of one do nothing in the other."""
    model = nn.Sequential(nn.Linear(3, 4), Odd(torch.tanh), nn.Linear(4, 2)).requires_grad_(False)
    x, both, found = torch.rand(2, 3), threading.Barrier(2, timeout=10), {}
    expected = {rule: propagate(model, x, rule)[0] for rule in ("epsilon", "alpha1_beta0")}
    assert not torch.equal(*expected.values())

    def explain(rule):
        points = x.clone().requires_grad_()
        with relevance(model, rule, layers={"2": Rule.named(rule)}) as scope:
            both.wait()
            score = model(points)[:, 0]
            both.wait()
        found[rule] = scope.relevance(score, points)[0]

    threads = [threading.Thread(target=explain, args=[rule]) for rule in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[rule], expected[rule]) for rule in expected)


def test_another_thread_is_served_as_ever():
    """The model answers another thread in the middle of the scope with its ordinary logits and gradients."""
    model, parts = classifier("gpt2"), batch_of(tokenizer_for("gpt2"))
    parts = {name: parts[name] for name in ("input_ids", "attention_mask")}
    words = model.get_input_embeddings().weight

    def served():
        logits = model(**parts).logits
        return logits.detach(), torch.autograd.grad(logits[:, 1].sum(), words)[0]

    expected, seen = served(), []
    x = torch.rand(2, 3, requires_grad=True)
    with relevance(model, "attn_lrp") as scope:
        for _ in range(2):
            thread = threading.Thread(target=lambda: seen.append(served()))
            thread.start()
            thread.join()
        ours = model(**parts).logits
        score = x.sum(dim=1)
    scope.relevance(score, x)
    assert torch.equal(ours, expected[0])
    assert not ours.requires_grad  # here parameters are constants
    for logits, gradient in seen:
        assert torch.equal(logits, expected[0])
        assert torch.equal(gradient, expected[1])
