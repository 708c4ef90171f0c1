import pytest

from lightning_interpret.functional.entities import entities

# by hand, from the rules of conlleval, which seqeval's default mode keeps
CASES = [
    ("O O", []),
    ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
    ("I-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),  # no B is needed
    ("B-PER B-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("B-PER I-LOC", [("PER", 0, 1), ("LOC", 1, 2)]),  # another type begins another entity
    ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
    ("S-PER S-PER B-LOC I-LOC E-LOC I-LOC", [("PER", 0, 1), ("PER", 1, 2), ("LOC", 2, 5), ("LOC", 5, 6)]),
    ("E-PER E-PER", [("PER", 0, 1), ("PER", 1, 2)]),
    ("B-creative-work I-creative-work", [("creative-work", 0, 2)]),
    ("U-PER B-LOC L-LOC L-LOC", [("PER", 0, 1), ("LOC", 1, 3), ("LOC", 3, 4)]),
    ("B I O I", [("", 0, 2), ("", 3, 4)]),
    ("NOUN NOUN VERB O", [("NOUN", 0, 2), ("VERB", 2, 3)]),
    ("", []),
]


@pytest.mark.parametrize(("tags", "expected"), CASES)
def test_entities_are_those_of_conlleval(tags, expected):
    assert entities(tags.split()) == expected
