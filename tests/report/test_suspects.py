import csv
import math
import os

import pytest
from full_disk import room_for
from records import NASTY
from safe_html import capped, tables
from tensorboard.plugin_util import markdown_to_safe_html

from lightning_interpret.evidence import Suspect
from lightning_interpret.report.suspects import ranked, render, write_tsv

FEW = [
    Suspect(10, "good", "good", self_influence=0.5, loss=0.1, disagreement=0.2, text="a"),
    Suspect(11, "good", "bad", self_influence=3.0, loss=2.5, disagreement=0.9, text="b"),
    Suspect(12, "bad", "bad", self_influence=0.5, loss=0.3, disagreement=None, text="c"),
    Suspect(13, "bad", None, self_influence=math.nan, loss=4.0, disagreement=0.9),
]


def test_the_most_suspicious_comes_first_and_ranks_stand_beside():
    found = ranked(FEW)
    assert [each.suspect.example_id for each in found] == [11, 10, 12, 13]
    assert [dict(each.ranks) for each in found] == [
        {"self_influence": 1, "loss": 2, "disagreement": 1},
        {"self_influence": 2, "loss": 4, "disagreement": 3},
        {"self_influence": 2, "loss": 3},
        {"loss": 1, "disagreement": 1},
    ]
    assert [each.suspect.example_id for each in ranked(FEW, by="loss")] == [13, 11, 12, 10]
    with pytest.raises(ValueError, match="`by='length'` is no score of a suspect; there are self_influence"):
        ranked(FEW, by="length")


def test_the_table_says_numbers_and_ranks_and_counts_what_it_leaves_out():
    (lines,) = tables(markdown_to_safe_html(render(ranked(FEW), limit=3)))
    assert lines[0] == ["1", "11", "good", "bad", "3 (1)", "2.5 (2)", "90% (1)", "b"]
    assert lines[2][4:] == ["0.5 (2)", "0.3 (3)", "–", "c"]
    assert len(lines) == 3
    text = render(ranked(FEW), limit=3)
    assert "the first 3 of 4 training examples" in text
    assert "**bad**" in text  # where label and model differ
    assert text.count("**bad**") == 1
    assert "self-influence" not in render(ranked([Suspect(1, loss=2.0)], by="loss")).split("\n\n")[1]
    assert render([]) == "No training example was scored."


def test_texts_are_literal_in_the_table():
    found = ranked([Suspect(i, text, text, loss=1.0, text=text) for i, text in enumerate(NASTY)], by="loss")
    (lines,) = tables(markdown_to_safe_html(render(found, by="loss")))
    for (_, _, label, said, _, text), token in zip(lines, NASTY, strict=True):
        assert label.strip() == said.strip() == capped(token, 60).strip()
        assert "".join(text.split()) == "".join(capped(token, 200).split())


def test_the_file_has_a_line_a_suspect_whatever_the_texts(tmp_path):
    path = tmp_path / "deep" / "suspects.tsv"
    write_tsv(path, ranked([*FEW, *(Suspect(100 + i, text, loss=0.0, text=text) for i, text in enumerate(NASTY))]))
    with open(path, encoding="utf8", newline="") as file:
        head, *lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
    assert head == [
        *("id", "gold", "prediction", "self_influence", "self_influence_rank", "loss", "loss_rank"),
        *("disagreement", "disagreement_rank", "text"),
    ]
    assert lines[0] == ["11", "good", "bad", "3.0", "1", "2.5", "2", "0.9", "1", "b"]
    assert {tuple(line) for line in lines if line[0] == "13"} == {("13", "bad", "", "", "", "4.0", "1", "0.9", "1", "")}
    assert len(lines) == len(FEW) + len(NASTY)
    texts = {int(line[0]) - 100: line[-1] for line in lines if int(line[0]) >= 100}
    for i, text in enumerate(NASTY):
        shown = texts[i].encode("latin1", "backslashreplace").decode("unicode_escape") if "\\" in texts[i] else texts[i]
        assert shown == text


def test_after_an_error_the_file_is_what_it_was(tmp_path):
    path = tmp_path / "suspects.tsv"
    write_tsv(path, ranked(FEW))
    before = path.read_bytes()

    def broken():
        yield ranked(FEW)[0]
        raise KeyError("gone")

    with pytest.raises(KeyError):
        write_tsv(path, broken())
    with room_for(10), pytest.raises(OSError, match=r"Could not write the file .*suspects.tsv"):
        write_tsv(path, ranked(FEW))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["suspects.tsv"]
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="Could not write the file"):
        write_tsv(tmp_path / "file" / "x.tsv", [])
