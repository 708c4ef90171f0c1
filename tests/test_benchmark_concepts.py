"""The benchmark of concept vectors runs in small, and prints every test of every concept; what it measures is not."""

import gzip
import re
import sys
from pathlib import Path

import pytest

from lightning_interpret.modules.from_scratch import small_encoder
from lightning_interpret.records.concept_test import ConceptTest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from concepts import CONCEPTS, main, told

FRAMES = ("the film was {} .", "so {} at last", "it has {} in it", "{} again", "one more {} , alas", "we saw {}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with sst2/ in the columns of SST-2, each sentence with a word of a concept, and a model in model/."""
    folder = tmp_path_factory.mktemp("concepts")
    rows = [
        (int(name != "blame"), frame.format(word))
        for frame in FRAMES
        for name, words in CONCEPTS.items()
        for word in words[:2]
    ]
    text = "label\tsentence\n" + "".join(f"{label}\t{sentence}\n" for label, sentence in rows)
    (folder / "sst2").mkdir()
    (folder / "sst2" / "dev.tsv").write_text(text)
    with gzip.open(folder / "sst2" / "train_sentences.tsv.gz", "wt") as file:
        file.write(text)
    small_encoder([sentence for _, sentence in rows], ["negative", "positive"]).save_pretrained(folder / "model")
    return folder


def test_concepts_are_followed_over_the_steps_and_random_sentences_counted(folder, monkeypatch, capsys):
    words = "--batches 2 --set-size 10 --random-concepts 4 --controls 2 --examples 16"
    where = ("--data-folder", str(folder), "--encoder-folder", str(folder / "model"))
    monkeypatch.setattr(sys, "argv", ["concepts.py", *where, *words.split()])
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # which it sets
    main()
    printed = capsys.readouterr().out
    assert [int(step) for step in re.findall(r"^Step (\d+), at ", printed, re.MULTILINE)] == [0, 1]
    for name in CONCEPTS:
        for label in ("negative", "positive"):
            assert len(re.findall(rf"^ *{name} {label} .* p \d", printed, re.MULTILINE)) == 2
    counted = re.findall(
        r"(random_concepts|paper) +(\w+) +p < \.05: random +\d+ of 4  words +\d+ of 12$", printed, re.M
    )
    assert len(set(counted)) == 6


def test_a_test_that_could_not_be_made_is_its_reason():
    assert told(ConceptTest("praise", "layer.1", "positive", reason="no example")) == "    praise positive  no example"
