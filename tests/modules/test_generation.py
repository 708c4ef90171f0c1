"""Texts to write: batches of sources and targets, of prompts and completions, and the module that learns them."""

import json

import pytest
import torch
from lightning.pytorch import seed_everything
from tiny import quiet_trainer
from torch.nn import functional as F
from torchmetrics.text import BLEUScore
from transformers import BertConfig

from lightning_interpret import GenerationDataModule, TextGenerator
from lightning_interpret.modules.from_scratch import byte_level, small_decoder, small_encoder_decoder
from lightning_interpret.modules.portable import config_values
from lightning_interpret.tasks.encode_written import joined

PAIRS = [("a dog", "ein Hund !"), ("two cats sit", "zwei Katzen sitzen"), ("a cat", "eine Katze")]
TEXTS = [text for pair in PAIRS for text in pair]


def write(folder, rows=PAIRS, names=("en", "de")):
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    return str(path)


def data_of(folder, rows=PAIRS, **options):
    file = write(folder, rows)
    files = {"train_file": file, "val_file": file, "predict_file": file}
    given = {"source_column": "en", "target_column": "de", "batch_size": 8}
    return GenerationDataModule(**files | given | options)


def batch_of(data, stage="fit"):
    data.setup(stage)
    return next(iter(data.predict_dataloader() if stage == "predict" else data.val_dataloader()))


def tokenizer_of(side="right", **options):
    tokenizer = byte_level(TEXTS, **options)
    tokenizer.padding_side = side
    return tokenizer


def spelled(tokenizer, ids):
    return tokenizer.decode([i for i in ids.tolist() if i >= 0])


def test_an_encoder_decoder_reads_sources_and_writes_targets_up_to_their_end(tmp_path):
    tokenizer = tokenizer_of(end=True)
    batch = batch_of(data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=True))
    for row, (source, target) in enumerate(PAIRS):
        assert spelled(tokenizer, batch["input_ids"][row][batch["attention_mask"][row] == 1]).strip() == f"{source}</s>"
        assert spelled(tokenizer, batch["labels"][row]).strip() == f"{target}</s>"
        assert (batch["labels"][row] == tokenizer.eos_token_id).sum() == 1
    assert batch["example_id"].tolist() == [0, 1, 2]
    unmarked = batch_of(data_of(tmp_path, tokenizer=tokenizer_of(), encoder_decoder=True))
    assert torch.equal(unmarked["labels"], batch["labels"])  # the end of a target is put where a tokenizer does not
    assert "labels" not in batch_of(data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=True), "predict")


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_decoder_learns_the_completion_and_its_end_and_not_the_prompt(tmp_path, side):
    tokenizer = tokenizer_of(side, begin=True)
    batch = batch_of(data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=False))
    for row, (source, target) in enumerate(PAIRS):
        ids, labels, there = (batch[name][row] for name in ("input_ids", "labels", "attention_mask"))
        assert spelled(tokenizer, ids[there == 1]) == f"<s> {source} {target}</s>"
        assert spelled(tokenizer, labels).strip() == f"{target}</s>"
        assert bool((labels[there == 0] == -100).all())
        assert torch.equal(labels[labels >= 0], ids[labels >= 0])
        for token, (a, b) in enumerate(batch["offset_mapping"][row].tolist()):
            if a < b:
                assert tokenizer.decode([ids[token]]).strip() == f"{source} {target}"[a:b]
    prompts = batch_of(data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=False), "predict")
    assert "labels" not in prompts
    assert spelled(tokenizer, prompts["input_ids"][0][prompts["attention_mask"][0] == 1]) == "<s> a dog"


def test_a_prompt_to_predict_does_not_end(tmp_path):
    tokenizer = tokenizer_of(begin=True, end=True)
    batch = batch_of(data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=False), "predict")
    assert tokenizer.eos_token_id not in batch["input_ids"]


def test_a_text_alone_is_learnt_whole(tmp_path):
    tokenizer = tokenizer_of(begin=True)
    data = data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=False, source_column=None)
    batch = batch_of(data)
    there = batch["attention_mask"] == 1
    assert torch.equal(batch["labels"], batch["input_ids"].masked_fill(~there, -100))
    assert spelled(tokenizer, batch["labels"][0]) == "<s> ein Hund !</s>"


def test_a_space_stands_between_prompt_and_completion_where_neither_has_one():
    class Row:
        def __init__(self, source, target):
            self.source, self.target = source, target

    assert joined("2 + 2 =", "4") == ("2 + 2 = 4", 7)
    assert joined("Q: ", "4") == ("Q: 4", 3)
    assert joined("Q", "\n4") == ("Q\n4", 1)
    assert joined("", "4") == ("4", 0)
    assert joined("Q", None) == ("Q", 1)


def test_of_what_is_too_long_the_prompt_is_cut_first(tmp_path):
    tokenizer = tokenizer_of(begin=True)
    rows = [("two cats sit a dog", "eine Katze"), ("a dog", "zwei Katzen sitzen eine Katze zwei Katzen")]
    options = {"tokenizer": tokenizer, "encoder_decoder": False, "max_length": 6}
    with pytest.warns(UserWarning, match=r"2 of 2 texts have more than 6 tokens and are cut \(the first on line 1\)"):
        batch = batch_of(data_of(tmp_path, rows, **options))
    found = [spelled(tokenizer, row) for row in batch["input_ids"]]
    assert found == ["<s> a dog eine Katze</s>", "<s> dog zwei Katzen sitzen eine"]
    assert [spelled(tokenizer, row) for row in batch["labels"]] == [" eine Katze</s>", " zwei Katzen sitzen eine"]
    assert batch["note"] == [f"cut to 6 of {before} tokens: the model takes no more" for before in (9, 11)]


def test_of_an_encoder_decoder_each_end_is_cut_and_the_target_still_ends(tmp_path):
    tokenizer = tokenizer_of(end=True)
    data = data_of(tmp_path, tokenizer=tokenizer, encoder_decoder=True, max_length=4, max_target_length=3)
    with pytest.warns(UserWarning, match="2 of 3 texts have more than 3 tokens"):
        batch = batch_of(data)
    assert batch["labels"].shape == (3, 3)
    assert spelled(tokenizer, batch["labels"][1]) == " zwei Katzen</s>"
    assert spelled(tokenizer, batch["input_ids"][1]) == " two cats sit</s>"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"encoder_decoder": True, "source_column": None}, "an encoder-decoder reads a source: name its column"),
        ({}, "`encoder_decoder=None`, and the module does not say"),
    ],
)
def test_what_a_model_reads_must_be_known(tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        data_of(tmp_path, tokenizer=tokenizer_of(), **options).setup("fit")


def test_a_column_is_not_source_and_target():
    with pytest.raises(ValueError, match="are both 'text': leave `source_column` out"):
        GenerationDataModule(source_column="text")


def made(kind, **options):
    seed_everything(0, verbose=False)
    if kind == "encoder_decoder":
        return small_encoder_decoder(TEXTS, max_length=32, learning_rate=3e-3, **options)
    return small_decoder(TEXTS, max_length=32, learning_rate=3e-3, **{"bleu_batches": 1} | options)


@pytest.fixture(scope="module", params=["encoder_decoder", "decoder"])
def trained(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    module, data = made(request.param), data_of(folder)
    before = quiet_trainer(folder).validate(module, data, verbose=False)[0]
    trainer = quiet_trainer(folder, max_epochs=25, check_val_every_n_epoch=25, num_sanity_val_steps=0)
    trainer.fit(module.train(), data)
    return module.eval(), data, trainer, before, folder


def test_it_learns_to_write_and_logs_what_it_says(trained):
    module, data, trainer, before, folder = trained
    found = trainer.callback_metrics
    assert found["val_loss"] < 0.3 * before["val_loss"]
    batch = next(iter(data.val_dataloader()))
    with torch.no_grad():
        scores, labels = module(batch), batch["labels"]
    if not module.encoder_decoder:
        scores, labels = scores[:, :-1], labels[:, 1:]
    loss = F.cross_entropy(scores.flatten(0, 1), labels.flatten(), ignore_index=-100)
    assert found["val_loss"].item() == pytest.approx(loss.item(), abs=1e-5)
    assert found["val_perplexity"].item() == pytest.approx(loss.exp().item(), abs=1e-4)
    rows = [row for part in quiet_trainer(folder).predict(module, data) for row in part]
    assert [row["example_id"] for row in rows] == [0, 1, 2]
    assert [row["text"] for row in rows] == [target for _, target in PAIRS]
    judge = BLEUScore()
    assert found["val_bleu"] == judge([row["text"] for row in rows], [[target] for _, target in PAIRS])


def test_it_comes_back_from_a_checkpoint_and_from_a_directory(trained):
    module, data, trainer, _, folder = trained
    trainer.save_checkpoint(folder / "a.ckpt")
    module.save_pretrained(folder / "saved")
    batch = next(iter(data.val_dataloader()))
    for again in (TextGenerator.load_from_checkpoint(folder / "a.ckpt"), TextGenerator(str(folder / "saved"))):
        assert again.write(batch) == module.write(batch)
        with torch.no_grad():
            assert torch.equal(again.eval()(batch), module(batch))


def test_monitors_read_it(trained):
    module, data, *_ = trained
    batch, task = next(iter(data.val_dataloader())), module.interpret_task()
    assert type(task).__name__ == ("Seq2SeqGeneration" if module.encoder_decoder else "CausalGeneration")
    with torch.no_grad():
        lost, there = task.token_losses(module, batch)
        assert ((lost * there).sum() / there.sum()).item() == pytest.approx(module._loss(module(batch), batch).item())


@pytest.mark.parametrize("source", ["en", None])
def test_padding_at_either_side_leaves_loss_and_text_as_they_are(tmp_path, source):
    module = made("decoder").eval()
    found = []
    for side in ("right", "left"):
        module.tokenizer.padding_side = side
        batch = batch_of(data_of(tmp_path, tokenizer=module.tokenizer, encoder_decoder=False, source_column=source))
        with torch.no_grad():
            found.append((module._loss(module(batch), batch), module.write(batch)))
    torch.testing.assert_close(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_options_of_generate_are_its_own(tmp_path):
    module = made("decoder", generate={"max_new_tokens": 3}, bleu_batches=None).eval()
    assert module.bleu_batches == 4
    batch = batch_of(data_of(tmp_path, tokenizer=module.tokenizer, encoder_decoder=False), "predict")
    given = []
    whole = module.model.generate
    module.model.generate = lambda **options: given.append(options) or whole(**options)
    assert len(module.predict_step(batch, 0)) == 3
    assert given[0]["max_new_tokens"] == 3
    assert given[0]["num_beams"] == 1


def test_a_prompt_that_fills_the_model_loses_its_beginning(tmp_path):
    module = made("decoder").eval()
    ids = torch.randint(5, 200, (2, 30), generator=torch.Generator().manual_seed(0))
    whole, given = module.model.generate, []
    module.model.generate = lambda **options: given.append(options) or whole(**options)
    module.write({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert given[0]["max_new_tokens"] == 16
    assert torch.equal(given[0]["input_ids"], ids[:, -16:])
    module.write({"input_ids": ids[:, :10], "attention_mask": torch.ones_like(ids[:, :10])})
    assert given[1]["max_new_tokens"] == 22
    assert torch.equal(given[1]["input_ids"], ids[:, :10])


def test_a_decoder_writes_in_no_validation_unless_it_is_asked_to():
    assert made("decoder", bleu_batches=None).bleu_batches == 0
    assert made("encoder_decoder").bleu_batches == 4
    with pytest.raises(ValueError, match="`bleu_batches=-1`"):
        made("decoder", bleu_batches=-1)


def test_an_encoder_cannot_write():
    with pytest.raises(ValueError, match="has no decoder"):
        TextGenerator(config=config_values(BertConfig(hidden_size=16, num_attention_heads=2)), tokenizer=tokenizer_of())


def test_a_text_without_a_token_to_learn_has_loss_0():
    module = made("decoder")
    ids = torch.tensor([[1, 5]])
    batch = {"input_ids": ids, "attention_mask": torch.tensor([[1, 1]]), "labels": torch.tensor([[1, -100]])}
    assert module._loss(module(batch), batch) == 0
