"""Explanations of mixins that stand together: each by its kind, and what a Monitor finds of them."""

import pytest
import torch
from rationale_toys import gated
from tiny import LONG, SHORT, batch_of, wordpiece

from lightning_interpret import (
    ConceptBottleneckMixin,
    ConceptsRow,
    RationaleMixin,
    RationaleMonitor,
    RationaleRow,
    SpanExplanationMixin,
    SpansRow,
    TextClassifier,
)
from lightning_interpret.tasks import find_task

CONFIG = {
    "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "vocab_size": 40, "max_position_embeddings": 40,
}  # fmt: skip


class Three(RationaleMixin, SpanExplanationMixin, ConceptBottleneckMixin, TextClassifier):
    """Selects tokens, and weighs their spans, for a head that reads concepts."""


class Turned(ConceptBottleneckMixin, RationaleMixin, TextClassifier):
    """The same but for the spans, in another order."""


def made(kind, **options):
    torch.manual_seed(0)
    options = {"concept_names": ["praise", "length"], **options}
    module = kind(config=CONFIG, labels=["bad", "good"], tokenizer=wordpiece(), **options)
    module.configure_model()
    return module.eval()


def test_each_mixin_is_asked_by_its_kind_and_the_first_in_the_bases_without_one():
    module = made(Three)
    batch = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1])
    found = [module.explain_rationale(batch), module.explain_spans(batch), module.explain_concepts(batch)]
    assert [type(rows[0]) for rows in found] == [RationaleRow, SpansRow, ConceptsRow]
    assert module.explain(batch) == found[0]
    turned = made(Turned)
    assert turned.explain(batch) == turned.explain_concepts(batch)


@pytest.mark.parametrize(("kind", "first"), [(Three, RationaleRow), (Turned, ConceptsRow)])
def test_a_monitor_asks_the_first_in_the_bases_or_the_one_that_is_named(kind, first):
    module = made(kind)
    batch, task = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1]), find_task(module)
    for asked, expected in ((None, first), ("rationale", RationaleRow), ("concepts", ConceptsRow)):
        monitor = RationaleMonitor(asked)
        monitor.check(module, task)
        rows = monitor.explain(module, batch, task)
        assert [type(row) for row in rows] == [expected] * 2
        metrics = monitor.metrics()
        for probe, row in enumerate(rows):
            monitor.update(metrics, probe, row)
        assert any(metric.update_called for metric in metrics.values())


def test_a_rationale_stands_beside_as_many_tokens_at_random():
    module = gated("bert")
    batch = batch_of(module.tokenizer, [LONG, SHORT], labels=[0, 1])
    rows = module.explain(batch)
    assert rows == module.explain(batch)  # the same ones at each call
    with module.rationale.hearing() as heard, torch.no_grad():
        module(batch)
    (read,) = heard
    drawn = torch.rand(read.z.shape, generator=torch.Generator().manual_seed(0)).tolist()
    for i, row in enumerate(rows):
        order = sorted(read.selectable[i].nonzero().flatten().tolist(), key=drawn[i].__getitem__)
        count = int(read.selected[i].sum())
        for kept, expected in ((order[:count], row.control), (order[count:], row.control_complement)):
            z = read.special.float()
            z[i, kept] = 1
            with module.rationale.selecting(z), torch.no_grad():
                chances = module(batch)[i].softmax(dim=0)
            assert float(chances[["bad", "dull", "good"].index(row.prediction)]) == pytest.approx(expected, abs=1e-6)
        assert row.sufficiency_control == row.full - row.control
        assert row.comprehensiveness_control == row.full - row.control_complement
