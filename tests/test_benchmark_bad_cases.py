"""The benchmarks of bad cases: how groups are compared, what counts as edited, and that they run on a few rows."""

import gzip
import json
import random
import re
import sys

import pytest
import torch
from test_benchmarks import ROOT, run
from transformers import BertConfig, BertModel

from lightning_interpret.data import ReviewCorpus
from lightning_interpret.modules.from_scratch import word_piece

sys.path.insert(0, str(ROOT / "benchmarks"))
from bad_case_data import Pair, edited
from frozen import FrozenClassifier, fit_head
from groups import adjusted_mutual_information, mutual_information, over_represented


def test_groups_that_are_the_kinds_agree_wholly_and_random_ones_by_chance():
    kinds = [f"kind {i % 5}" for i in range(200)]
    same, most = adjusted_mutual_information(kinds, [i % 5 for i in range(200)], seed=0)
    assert same == pytest.approx(1)
    assert 0 < most < 0.1
    draw = random.Random(0)
    chance, _ = adjusted_mutual_information(kinds, [draw.randrange(5) for _ in kinds], seed=1)
    assert abs(chance) < 0.05
    assert adjusted_mutual_information(kinds, [0] * 200, seed=0)[0] == pytest.approx(0, abs=1e-9)
    assert adjusted_mutual_information(["one"] * 9, [0] * 9, seed=0) == (0, 0)
    assert mutual_information([0, 0, 1, 1], [0, 0, 1, 1]) == pytest.approx(0.6931, abs=1e-4)


def test_a_kind_is_told_beside_the_group_that_has_more_of_it_than_of_others():
    kinds = ["a"] * 10 + ["b"] * 30 + ["c"] * 4
    groups = [1] * 8 + [0] * 2 + [0] * 30 + [1] * 4
    rows = {row["name"]: row for row in over_represented(kinds, groups)}
    assert set(rows) == {"a", "b"}, "a kind of few cases says nothing"
    assert (rows["a"]["group"], rows["a"]["purity"], rows["a"]["cases"]) == (1, 0.8, 10)
    assert rows["a"]["base"] == pytest.approx(4 / 34)
    assert rows["a"]["p"] < 0.001
    assert (rows["b"]["group"], rows["b"]["purity"]) == (0, 1)
    evenly = over_represented(["a", "b"] * 20, [0, 0, 1, 1] * 10)
    assert [row["p"] for row in evenly] == [1, 1]


def test_what_is_edited_are_the_words_that_the_other_side_lacks_at_their_place():
    pair = Pair("A dull film, never good.", "Negative", "A fine film, always very good.", "Positive")
    assert edited(pair, "original") == {"dull", "never"}
    assert edited(pair, "revised") == {"fine", "always", "very"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data sets in their columns, of generated texts, and an untrained encoder in encoder/."""
    folder = tmp_path_factory.mktemp("bad_cases")
    reviews = [ReviewCorpus(120, seed=0)[i] for i in range(120)]
    numbers = [int(review.label == "positive") for review in reviews]

    def write(path, text):
        path.parent.mkdir(exist_ok=True)
        with gzip.open(path, "wt") as file:
            file.write(text)

    lines = [f"{n}\t{(n + (i % 5 == 0)) % 2}\t{r.text}" for i, (n, r) in enumerate(zip(numbers, reviews, strict=True))]
    write(folder / "ag_news" / "train.tsv.gz", "\n".join(["label\thuman_noisy_label\ttext", *lines]) + "\n")
    lines = [f"{n}\t{r.text}" for n, r in zip(numbers, reviews, strict=True)]
    write(folder / "ag_news" / "test.tsv.gz", "\n".join(["label\ttext", *lines]) + "\n")
    names = ("Negative", "Positive")
    pairs = [
        {
            "original": {"label": names[n], "text": r.text},
            "revised": {"label": names[1 - n], "text": f"not {r.text}"},
        }
        for n, r in zip(numbers, reviews, strict=True)
    ]
    for split in ("train", "dev", "test"):
        write(folder / "cad_imdb" / f"{split}.jsonl.gz", "".join(json.dumps(pair) + "\n" for pair in pairs))
    posts = [
        {"tokens": list(r.words), "label": ("normal", "hatespeech")[n]} for n, r in zip(numbers, reviews, strict=True)
    ]
    write(folder / "hatexplain" / "train.jsonl.gz", "".join(json.dumps(post) + "\n" for post in posts))
    lines = [
        f"kind {i % 3}\t{('non-hateful', 'hateful')[n]}\t{r.text}"
        for i, (n, r) in enumerate(zip(numbers, reviews, strict=True))
    ]
    write(folder / "hatecheck" / "cases.tsv.gz", "\n".join(["functionality\tlabel_gold\ttest_case", *lines]) + "\n")
    tokenizer = word_piece([review.text for review in reviews], max_length=64)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "encoder")
    return folder


def test_features_that_are_kept_are_those_of_the_encoder(folder, tmp_path):
    module = FrozenClassifier(str(folder / "encoder"), ["a", "b"], max_length=32)
    texts = [ReviewCorpus(9, seed=5)[i].text for i in range(9)]
    computed = module.keep(texts, tmp_path / "kept.pt")
    again = FrozenClassifier(str(folder / "encoder"), ["a", "b"], max_length=32)
    assert torch.equal(again.keep(texts, tmp_path / "kept.pt"), computed)
    batch = module.tokenizer(texts, truncation=True, max_length=32, padding=True, return_tensors="pt")
    forward, calls = module.encoder.forward, []
    module.encoder.forward = lambda **parts: calls.append(parts) or forward(**parts)
    kept = module.features(batch)
    assert not calls
    assert torch.equal(kept, computed)
    module.encoder.embeddings.word_embeddings.register_forward_hook(lambda *_: None)
    assert torch.allclose(module.features(batch), kept, atol=1e-5)
    assert len(calls) == 1
    head = fit_head(computed, torch.tensor([0, 1] * 4 + [0]), 2, seed=0, epochs=1)
    assert head(computed).shape == (9, 2)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ag", "cad", "hatecheck"])
def test_each_part_runs_on_a_few_rows(part, folder, tmp_path):
    words = f"--part {part} --encoder-folder {folder / 'encoder'} --train 60 --pairs 30 --cases 8 --seeds 1 --epochs 1"
    printed = run("bad_cases.py", folder, *words.split(), "--json", str(tmp_path / "figures.json"))
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["explained"] <= 8
    assert "| --- |" in printed
    assert {
        "ag": "accuracy of",
        "cad": "right, revised",
        "hatecheck": "adjusted mutual information",
    }[part] in figures


@pytest.mark.slow
def test_the_planted_corpus_is_trained_on_and_counted(folder, tmp_path):
    words = f"--output {tmp_path} --size 400 --epochs 1"
    printed = run("bad_cases_planted.py", tmp_path, *words.split(), data=False)
    assert "| nothing planted |" in printed
    assert (tmp_path / "model.ckpt").exists()
    assert len((tmp_path / "train.tsv").read_text().splitlines()) == 401


@pytest.mark.slow
def test_what_is_planted_is_found(tmp_path):
    """Ten minutes: nine tenths of the bad cases are in the group of their cause, and hardly others in any."""
    table = sorted_out_in(run("bad_cases_planted.py", tmp_path, "--output", str(tmp_path), data=False, timeout=3600))
    assert len(table) == 8
    assert sum(found for _, found, _ in table.values()) >= 0.9 * sum(cases for cases, _, _ in table.values())
    for cause, (cases, found, others) in table.items():
        assert cases >= 35, cause
        assert found >= 0.75 * cases, cause
        assert others < 10, cause


def sorted_out_in(printed):
    """Return bad cases of each planted cause, those in its group, and the per cent of the others that are."""
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \(\d+%\) \| \d+ \((\d+)%\) \|$", printed, re.MULTILINE)
    return {name: tuple(map(int, rest)) for name, *rest in rows}
