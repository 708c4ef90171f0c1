"""What is lost without a unit: against the model called by hand, against Captum, and batched as one by one."""

import captum.attr
import pytest
import torch
from tiny import Bag, BagTask, bag_task, batch_of, classifier, tokenizer_for, wordpiece
from tiny_images import images_of, model_of

from lightning_interpret import Baseline, Occlusion
from lightning_interpret.explanations import Units
from lightning_interpret.tasks import find_task
from lightning_interpret.tasks.base import Layout

TEXTS = ("he is unaffable and dull", "not bad")
PLACES = {"token": [[1], [2], [3], [4], [5]], "word": [[1], [2], [3, 4, 5]]}


@pytest.fixture
def case():
    return Bag().double(), batch_of(wordpiece(), TEXTS), bag_task()


def logit(model, ids, label):
    with torch.no_grad():
        return float(model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, label])


def without(ids, places, how):
    """The ids of one text without some places: by another id there, or deleted."""
    if how == "delete":
        return ids[:, [i for i in range(ids.shape[1]) if i not in places]]
    return ids.index_fill(1, torch.tensor(places), {"pad": 0, "mask": 4}[how])


@pytest.mark.parametrize("how", ["pad", "mask", "delete"])
@pytest.mark.parametrize("unit", ["token", "word"])
def test_each_score_is_what_the_model_says_without_it(unit, how):
    model, tokenizer = classifier("bert", dtype=torch.float64), wordpiece()
    batch = batch_of(tokenizer, ["he is unaffable"])
    ids = batch["input_ids"]
    record = Occlusion(unit=unit, baseline=how)(model, batch, find_task(model, tokenizer=tokenizer))
    label, target = int(record.target_name[0][-1]), float(record.target)
    lost = [target - logit(model, without(ids, places, how), label) for places in PLACES[unit]]
    assert min(abs(value) for value in lost) > 1e-4
    words = [word.score for word in record[0].merged() if not word.special]
    if unit == "word":
        assert words == pytest.approx(lost, abs=1e-12)
        assert record[0].scores[3:6] == pytest.approx([lost[2] / 3] * 3, abs=1e-12)
    assert sum(words) == pytest.approx(sum(lost), abs=1e-12)
    assert record[0].scores[0] == record[0].scores[-1] == 0
    everything = logit(model, without(ids, [1, 2, 3, 4, 5], how), label)
    assert float(record.baseline_target) == pytest.approx(everything, abs=1e-12)
    assert float(record.attribution_target) == pytest.approx(target - everything, abs=1e-12)
    assert float(record.error) == pytest.approx(sum(lost) - (target - everything), abs=1e-12)
    assert record.baseline == how


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_windows_agree_with_captum(name, window, stride):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name)
    batch = batch_of(tokenizer, ["he is very dull", "a bad film movie"])  # of one length: 4 tokens and 2 special ones
    ids, mask = batch["input_ids"], batch["attention_mask"]
    words = model.get_input_embeddings()
    embedded, reference = words(ids).detach(), words(torch.zeros_like(ids)).detach()

    def of_content(content):
        values = torch.cat([embedded[:, :1], content, embedded[:, -1:]], dim=1)
        handle = words.register_forward_hook(lambda module, args, output: values)
        try:
            return model(input_ids=ids, attention_mask=mask).logits
        finally:
            handle.remove()

    content, absent = embedded[:, 1:-1], reference[:, 1:-1]
    peer = captum.attr.Occlusion(of_content).attribute(
        content,
        (window, content.shape[2]),
        strides=(stride, 1),
        baselines=absent,
        target=of_content(content).argmax(dim=1),
    )
    chosen = Occlusion(unit="window", window=window, stride=stride)
    record = chosen(model, batch, find_task(model, tokenizer=tokenizer))
    assert float(peer.abs().max()) > 1e-2
    torch.testing.assert_close(record.scores[:, 1:-1].float() * window, peer[..., 0].float(), rtol=0, atol=1e-6)


def test_words_agree_with_captum():
    model, tokenizer = classifier("bert", dtype=torch.float64), wordpiece()
    batch = batch_of(tokenizer, ["he is unaffable"])
    ids = batch["input_ids"]
    groups = torch.tensor([[0, 1, 2, 3, 3, 3, 4]])

    def forward(ids):
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits

    peer = captum.attr.FeatureAblation(forward).attribute(
        ids, baselines=0, feature_mask=groups, target=int(forward(ids).argmax())
    )
    record = Occlusion(unit="word")(model, batch, find_task(model, tokenizer=tokenizer))
    expected = peer[0] / torch.tensor([1, 1, 1, 3, 3, 3, 1])
    torch.testing.assert_close(record.scores[0, 1:-1].float(), expected[1:-1].float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("baseline", ["mask", "delete"])
@pytest.mark.parametrize(
    ("name", "side"), [("bert", "right"), ("roberta", "right"), ("gpt2", "left"), ("llama", "left")]
)
def test_rows_are_what_they_are_alone(name, side, baseline):
    model, tokenizer = classifier(name, dtype=torch.float64), tokenizer_for(name, padding_side=side)
    task, method = find_task(model, tokenizer=tokenizer), Occlusion(baseline=baseline, unit="word")
    together = method(model, batch_of(tokenizer, TEXTS), task)
    for size in (1, 3):
        split = Occlusion(baseline=baseline, unit="word", internal_batch_size=size)
        torch.testing.assert_close(split(model, batch_of(tokenizer, TEXTS), task).scores, together.scores)
    for row, text in zip(together, TEXTS, strict=True):
        alone = method(model, batch_of(tokenizer, [text]), task)[0]
        assert row.scores == pytest.approx(alone.scores, abs=1e-6)  # llama's norms are in single precision
        assert row.error == pytest.approx(alone.error, abs=1e-6)
    assert together.scores[together.units.padding].abs().sum() == 0


@pytest.mark.parametrize("baseline", ["pad", "delete"])
def test_forward_passes_are_counted_and_no_gradient_is(baseline):
    counted = {True: 0, False: 0}

    class Counts(BagTask):
        def logits(self, module, batch):
            logits = super().logits(module, batch)
            counted[logits.requires_grad] += len(logits)
            return logits

    model, batch, task = Bag(), batch_of(wordpiece(), TEXTS), Counts(wordpiece())
    Occlusion(baseline=baseline)(model, batch, task)  # also makes a trial of the layer
    counted.update({True: 0, False: 0})
    record = Occlusion(baseline=baseline)(model, batch, task)
    assert counted == {True: 0, False: int(record.forwards.sum())}
    assert record.gradients.tolist() == [0, 0]
    assert int(record.forwards[0]) == 7 + 2  # 7 tokens, x and x'


def test_an_additive_model_has_no_error():
    model, batch, task = Bag().double(), batch_of(wordpiece(), TEXTS), bag_task()
    model.hidden.weight.data.mul_(1e-6)  # where tanh is the identity
    model.hidden.bias.data.zero_()
    for method in (Occlusion(), Occlusion(unit="word"), Occlusion(unit="window", window=2, stride=2)):
        record = method(model, batch, task)
        assert float(record.attribution_target.abs().min()) > 1e-9
        torch.testing.assert_close(record.error, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-15)


@pytest.mark.parametrize("layer", ["middle", "hidden"])
def test_any_layer(case, layer):
    model, batch, task = case
    record = Occlusion()(model, batch, task, layer=layer)
    assert record.units.kind == {"middle": "token", "hidden": "feature"}[layer]
    assert float(record.scores.abs().max()) > 1e-3
    if layer == "middle":
        torch.testing.assert_close(record.scores, Occlusion()(model, batch, task).scores)


def test_units_as_in_the_baseline_and_special_tokens(case):
    model, _, task = case
    batch = batch_of(task.tokenizer, ["he [MASK] dull", ""])
    record = Occlusion(baseline="mask")(model, batch, task)
    assert [score != 0 for score in record[0].scores] == [False, True, False, True, False]
    assert record.scores[1].abs().sum() == record[1].error == 0
    whole = Occlusion(baseline=Baseline("zero", keep_special=False))(model, batch, task)
    assert bool((whole.scores[~whole.units.padding] != 0).all())


class Grid(BagTask):
    """Content that lies on a grid of 2 × 2, after a unit that does not."""

    def layout(self, module, batch, features, layer):
        units = Units.locations(len(features), (2, 2), before=1, after=1)
        return Layout(units, lambda values: values.sum(dim=2))


@pytest.mark.parametrize("window", [(1, 2), (2, 1), 2])
def test_windows_of_a_grid(window):
    model, tokenizer = Bag().double(), wordpiece()
    batch = batch_of(tokenizer, ["he is very dull"])
    record = Occlusion(unit="window", window=window, stride=window)(model, batch, Grid(tokenizer))
    groups = {(1, 2): [[1, 2], [3, 4]], (2, 1): [[1, 3], [2, 4]], 2: [[1, 2, 3, 4]]}[window]
    ids, label = batch["input_ids"], int(record.target_name[0])
    for places in groups:
        with torch.no_grad():
            left = model(without(ids, places, "pad"), batch["attention_mask"])[0, label]
        assert record[0].scores[places[0]] * len(places) == pytest.approx(float(record.target) - float(left), abs=1e-12)
        assert len({record[0].scores[place] for place in places}) == 1
    assert record.units.grid == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "words"}, r"`unit='words'` does not exist\. Did you mean 'word'"),
        ({"unit": "window"}, r"a window has a size"),
        ({"window": 2}, r"`unit='token'` with window=2"),
        ({"stride": 2}, r"stride=2: a window has a size"),
        ({"unit": "window", "window": 0}, r"`window=0` must be a whole number of at least 1"),
        ({"unit": "window", "window": (1, 2, 3)}, r"`window=\(1, 2, 3\)` must be a whole number"),
        ({"unit": "window", "window": 2, "stride": 3}, r"`stride=3` is larger than window=2"),
        ({"unit": "window", "window": (3, 2), "stride": 3}, r"`stride=3` is larger than window=\(3, 2\)"),
        ({"baseline": "padd"}, r"Did you mean 'pad'"),
        ({"internal_batch_size": 0}, r"`internal_batch_size=0` must be"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Occlusion(**options)


def test_what_cannot_be_deleted_is_refused(case):
    model, batch, task = case
    with pytest.raises(ValueError, match=r"`layer='hidden'` with baseline='delete'.*Leave `layer` out"):
        Occlusion(baseline="delete")(model, batch, task, layer="hidden")
    maskless = {"input_ids": batch["input_ids"]}

    class Ids(BagTask):
        def logits(self, module, batch):
            return module(batch["input_ids"], (batch["input_ids"] != 0).long())

    with pytest.raises(ValueError, match=r"texts of several lengths.*no `attention_mask`"):
        Occlusion(baseline="delete")(model, maskless, Ids(task.tokenizer))


@pytest.mark.parametrize("side", ["left", "right"])
def test_positions_are_those_of_the_shorter_text(side):
    model, tokenizer = classifier("bert"), wordpiece(padding_side=side)
    batch = batch_of(tokenizer, TEXTS)
    mask = batch["attention_mask"]
    batch["position_ids"] = 3 + (mask.cumsum(dim=1) - 1).clamp(min=0)
    task = find_task(model, tokenizer=tokenizer)
    units = task.units(batch)
    absent = ~(units.special | units.padding)
    absent[:, -4:] = False
    shorter = task.delete(model, batch, absent)
    real = shorter["attention_mask"].bool()
    for row in range(2):
        count = int(real[row].sum())
        assert shorter["position_ids"][row][real[row]].tolist() == list(range(3, 3 + count))
        assert shorter["input_ids"][row][~real[row]].tolist() == [0] * int((~real[row]).sum())
        assert bool(real[row][0 if side == "right" else -1])


@pytest.mark.parametrize(("window", "stride"), [(8, 8), ((16, 8), (8, 4))])
def test_windows_of_pixels_agree_with_captum(window, stride):
    """Captum's images have a window's loss whole at each pixel of it; here each has its share."""
    model, batch = model_of("resnet"), images_of()
    method = Occlusion("zero", unit="window", window=window, stride=stride)
    record = method(model, batch, find_task(model), layer="pixel_values")
    pixels = batch["pixel_values"]
    high, wide = (window, window) if isinstance(window, int) else window
    steps = (stride, stride) if isinstance(stride, int) else stride
    target = model(pixel_values=pixels).logits.argmax(dim=1)
    peer = captum.attr.Occlusion(lambda values: model(pixel_values=values).logits).attribute(
        pixels, (3, high, wide), strides=(3, *steps), target=target
    )
    expected = peer.mean(dim=1).flatten(1) / (high * wide)
    assert float(expected.abs().max()) > 1e-6
    torch.testing.assert_close(record.scores.float(), expected.float(), rtol=0, atol=1e-6)
