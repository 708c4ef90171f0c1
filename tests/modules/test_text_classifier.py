import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from tiny import quiet_trainer, wordpiece
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional as F
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, GPT2Config, PreTrainedTokenizerFast

from lightning_interpret import TextClassifier, TextDataModule
from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.modules.portable import config_values
from lightning_interpret.tasks.encode import encode

ROOT = Path(__file__).parents[2]
TEXTS = ["the food was not good", "we loved the lamb . it was great !", "dull"]


def tiny_config(**options):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    return config_values(BertConfig(vocab_size=24, max_position_embeddings=40, **sizes, **options))


def tiny_data(path, *rows, **options):
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    return TextDataModule(train_file=str(path), val_file=str(path), tokenizer=wordpiece(), batch_size=4, **options)


def three_classes(path, **options):
    rows = [("the film was good", "good"), ("he is very dull", "dull"), ("a bad movie", "bad")] * 4
    return tiny_data(path, *rows, **options)


def logits_of(module, texts=TEXTS):
    module.eval()
    with torch.no_grad():
        return module(encode(module.tokenizer, texts))


def test_an_epoch_logs_what_it_says(trained):
    assert {"train_loss", "val_loss", "val_accuracy", "val_f1"} <= set(trained.metrics)
    rows = trained.data.rows["val"]
    logits = logits_of(trained.module, [row.text for row in rows])
    gold = torch.tensor([trained.module.labels.index(row.label) for row in rows])
    found = logits.argmax(dim=1)
    f1 = []
    for label in (0, 1):
        hits = ((found == label) & (gold == label)).sum()
        f1.append(2 * hits / ((found == label).sum() + (gold == label).sum()))
    assert trained.metrics["val_loss"] == pytest.approx(F.cross_entropy(logits, gold).item(), abs=1e-5)
    assert trained.metrics["val_accuracy"] == pytest.approx((found == gold).float().mean().item())
    assert trained.metrics["val_f1"] == pytest.approx((sum(f1) / 2).item())


def test_test_logs_under_its_own_names(trained):
    found = quiet_trainer(trained.folder).test(trained.module, datamodule=trained.data, verbose=False)[0]
    assert found["test_loss"] == pytest.approx(trained.metrics["val_loss"].item(), abs=1e-6)
    assert found["test_accuracy"] == pytest.approx(trained.metrics["val_accuracy"].item())
    assert found["test_f1"] == pytest.approx(trained.metrics["val_f1"].item())


def test_labels_are_those_of_the_data_where_none_are_named(tmp_path):
    module = TextClassifier(config=tiny_config(), tokenizer=wordpiece())
    assert module.labels is None
    assert module.model is None
    quiet_trainer(tmp_path, max_epochs=1).fit(module, datamodule=three_classes(tmp_path / "rows.tsv"))
    assert module.labels == ["bad", "dull", "good"]
    assert module.model.config.id2label == {0: "bad", 1: "dull", 2: "good"}
    assert logits_of(module, ["good film"]).shape == (1, 3)


def test_labels_are_those_of_a_saved_model(trained):
    module = TextClassifier(trained.model)
    assert module.labels == ["negative", "positive"]
    assert module.model is not None
    data = TextDataModule(train_file=trained.train, val_file=trained.val)
    quiet_trainer(trained.folder, fast_dev_run=True).fit(module, datamodule=data)
    assert data.labels == ["negative", "positive"]


def test_labels_of_module_and_data_that_disagree_are_refused(tmp_path, trained):
    data = TextDataModule(train_file=trained.train, val_file=trained.val, labels=["positive", "negative"])
    with pytest.raises(ValueError, match=r"labels=\['positive', 'negative'\].*labels=\['negative', 'positive'\]"):
        quiet_trainer(tmp_path, max_epochs=1).fit(TextClassifier(trained.model), datamodule=data)


def test_labels_may_be_numbers(tmp_path):
    data = tiny_data(tmp_path / "rows.tsv", *[("good film", "1"), ("bad film", "0")] * 4)
    module = TextClassifier(config=tiny_config(), labels=[0, 1], tokenizer=wordpiece())
    quiet_trainer(tmp_path, max_epochs=1).fit(module, datamodule=data)
    assert module.labels == data.labels == ["0", "1"]


SCRIPT = """
import sys, torch
from lightning_interpret import TextClassifier
from lightning_interpret.tasks.encode import encode
module = TextClassifier.load_from_checkpoint(sys.argv[1]).eval()
with torch.no_grad():
    logits = module(encode(module.tokenizer, sys.argv[3:]))
kept = {"logits": logits, "labels": module.labels, "tokens": module.tokenizer.tokenize(sys.argv[3]),
        "rate": module.hparams["learning_rate"]}
torch.save(kept, sys.argv[2])
"""


def test_a_checkpoint_holds_all_that_a_prediction_needs(trained, tmp_path):
    moved = tmp_path / "moved.ckpt"
    moved.write_bytes(trained.checkpoint.read_bytes())
    words = [sys.executable, "-c", SCRIPT, moved.name, "out.pt", *TEXTS]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    kept = torch.load(tmp_path / "out.pt")
    assert torch.equal(kept["logits"], logits_of(trained.module))
    assert kept["labels"] == trained.module.labels
    assert kept["tokens"] == trained.module.tokenizer.tokenize(TEXTS[0])
    assert kept["rate"] == 5e-4


def test_a_checkpoint_of_a_model_by_name_holds_it_too(trained, tmp_path):
    module = TextClassifier(trained.model, learning_rate=1e-4)
    trainer = quiet_trainer(tmp_path, max_steps=1)
    trainer.fit(module, datamodule=TextDataModule(train_file=trained.train, val_file=trained.val))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = TextClassifier.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.hparams["model"] is None
    assert torch.equal(logits_of(loaded), logits_of(module))


def test_a_saved_directory_is_the_model(trained):
    again = TextClassifier(trained.model)
    assert torch.equal(logits_of(again), logits_of(trained.module))
    assert again.tokenizer(TEXTS)["input_ids"] == trained.module.tokenizer(TEXTS)["input_ids"]


def test_a_saved_model_is_trained_with_its_dropout(trained):
    module = TextClassifier(trained.model)
    batch = encode(module.tokenizer, TEXTS)
    assert not torch.equal(module(batch), module(batch))
    module.eval()
    assert torch.equal(module(batch), module(batch))


@pytest.mark.parametrize("given", [{}, {"model": "somewhere", "config": {"model_type": "bert"}}])
def test_either_a_model_or_a_config(given):
    with pytest.raises(ValueError, match=r"Give either `model` .* or `config`"):
        TextClassifier(**given)


def test_a_model_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # the variable is read at import
    with pytest.raises(OSError, match="`model='nobody/nothing'` is no directory, and no name within reach"):
        TextClassifier("nobody/nothing")
    with pytest.raises(OSError, match="holds no `transformers` model"):
        TextClassifier(str(tmp_path))


def test_a_model_without_its_tokenizer_is_refused(trained, tmp_path):
    trained.module.model.save_pretrained(tmp_path)
    module = TextClassifier(str(tmp_path))
    with pytest.raises(OSError, match="has no vocabulary: save the tokenizer there"):
        _ = module.tokenizer
    assert TextClassifier(str(tmp_path), tokenizer=trained.model).tokenizer.tokenize("good") == ["good"]


def test_the_head_is_made_anew_for_other_classes(trained):
    module = TextClassifier(trained.model, labels=["low", "middle", "high"])
    assert logits_of(module).shape == (len(TEXTS), 3)
    assert module.model.config.id2label == {0: "low", 1: "middle", 2: "high"}
    before, after = trained.module.model.state_dict(), module.model.state_dict()
    assert {name for name in before if before[name].shape != after[name].shape} == {
        "classifier.weight",
        "classifier.bias",
    }
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("bert."))


def test_a_head_without_names_takes_those_of_the_data(tmp_path):
    BertForSequenceClassification(BertConfig.from_dict(tiny_config(num_labels=3))).save_pretrained(tmp_path / "bare")
    module = TextClassifier(str(tmp_path / "bare"), tokenizer=wordpiece())
    assert module.labels is None
    quiet_trainer(tmp_path, max_epochs=1).fit(module, datamodule=three_classes(tmp_path / "rows.tsv"))
    assert module.labels == ["bad", "dull", "good"]


class InOrder(TextDataModule):
    def train_dataloader(self):
        shuffled = super().train_dataloader()
        return DataLoader(shuffled.dataset, batch_size=self.batch_size, collate_fn=shuffled.collate_fn)


class Rates(Callback):
    def __init__(self):
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def run_of_three_epochs(folder, trained, ckpt_path=None):
    seed_everything(3, verbose=False)
    config = config_values(BertConfig.from_pretrained(trained.model)) | {
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    module = TextClassifier(config=config, tokenizer=trained.model, learning_rate=1e-3, warmup=0.25)
    data = InOrder(train_file=trained.train, val_file=trained.val, batch_size=24)
    rates = Rates()
    saver = ModelCheckpoint(dirpath=folder, filename="{epoch}", save_top_k=-1)
    trainer = quiet_trainer(folder, max_epochs=3, callbacks=[saver, rates], enable_checkpointing=True)
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    return module, trainer, rates.rates


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(trained, tmp_path):
    whole, trainer, rates = run_of_three_epochs(tmp_path / "whole", trained)
    again, resumed, rest = run_of_three_epochs(tmp_path / "again", trained, tmp_path / "whole" / "epoch=0.ckpt")
    assert len(rest) == 8  # of 12 steps
    assert rest == rates[4:]
    assert rates == pytest.approx([1e-3 * min(step / 3, (12 - step) / 9) for step in range(12)])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    for one, other in zip(trainer.optimizers[0].state.values(), resumed.optimizers[0].state.values(), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    assert trainer.callback_metrics == resumed.callback_metrics


def test_biases_and_normalisation_are_not_decayed(trained):
    decays = {
        id(weight): group["weight_decay"]
        for group in trained.trainer.optimizers[0].param_groups
        for weight in group["params"]
    }
    for name, weight in trained.module.named_parameters():
        plain = name.endswith("bias") or "LayerNorm" in name
        assert decays[id(weight)] == (0.0 if plain else 0.01), name


def byte_level(texts):
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"special_tokens": ["<|end|>"], "initial_alphabet": alphabet, "show_progress": False}
    core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=300, **options))
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<|end|>", eos_token="<|end|>")


def test_a_decoder_without_a_padding_token_is_padded(tmp_path):
    tokenizer = byte_level(["good food and nice people", "bad food"])
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "bos_token_id": 0, "eos_token_id": 0}
    config = config_values(GPT2Config(vocab_size=len(tokenizer), **sizes))
    assert tokenizer.pad_token is None
    assert config["pad_token_id"] is None
    module = TextClassifier(config=config, labels=["bad", "good"], tokenizer=tokenizer)
    assert module.model.config.pad_token_id == module.tokenizer.pad_token_id == tokenizer.eos_token_id
    rows = [("good food and nice people", "good"), ("bad food", "bad"), ("nice", "good"), ("bad", "bad")]
    path = tmp_path / "rows.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in rows))
    data = TextDataModule(train_file=str(path), val_file=str(path), batch_size=4)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, datamodule=data)
    together = logits_of(module, [text for text, _ in rows])
    alone = torch.cat([logits_of(module, [text]) for text, _ in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)
    trainer.save_checkpoint(tmp_path / "gpt.ckpt")
    loaded = TextClassifier.load_from_checkpoint(tmp_path / "gpt.ckpt")
    assert torch.equal(logits_of(loaded, [text for text, _ in rows]), together)


def test_labels_in_another_order_than_the_models_are_refused(tmp_path):
    module = small_encoder(["a b c"], ["negative", "positive"])
    module.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"in another order .* which would swap its classes"):
        TextClassifier(str(tmp_path), labels=["positive", "negative"])
