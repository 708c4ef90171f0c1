"""The configuration in `docs/rationales.md` trains a model that explains in words; a tiny one stands for T5."""

import json
import re
from pathlib import Path

import pytest
from generated_toys import MODELS, made
from transformers import PreTrainedTokenizerFast

from lightning_interpret.cli import main
from lightning_interpret.modules.from_scratch import word_piece

GUIDE = Path(__file__).parents[1] / "docs" / "rationales.md"
LABELS = ["entailment", "neutral", "contradiction"]


@pytest.fixture
def explained(tmp_path, monkeypatch):
    """The folder with the configuration and what it names."""
    monkeypatch.chdir(tmp_path)
    (text,) = (
        block for block in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S) if "explained.yaml" in block
    )
    (tmp_path / "explained.yaml").write_text(text)
    tokenizer: PreTrainedTokenizerFast = word_piece([" ".join([*made(60)[0], *LABELS, "because label: explanation:"])])
    model = MODELS["t5"]()
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained("t5-small")
    tokenizer.save_pretrained("t5-small")
    for name, seed in (("train", 0), ("val", 1)):
        rows = [
            {"text": text, "label": LABELS[label], "why": why if label else None}
            for text, label, why in zip(*made(24, seed), strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_the_configuration_of_the_guide_trains(explained):
    words = ["fit", "--config", "explained.yaml", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1"]
    with pytest.warns(UserWarning, match="those of 'entailment' are not learnt"):
        assert main(words) == 0
    assert list(explained.rglob("*.ckpt"))
