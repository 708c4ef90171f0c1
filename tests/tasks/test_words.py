"""Golden case T10: words from sub-words, from the tokenizer's own marks; nothing is lost in joining."""

from dataclasses import replace

import pytest
from tiny import batch_of, wordpiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lightning_interpret import AttributionRow, SequenceClassification
from lightning_interpret.tasks import words

ROW = AttributionRow(
    tokens=(), scores=(), target=0.0, target_name="good", output="logit", method="gradient", layer="embedding"
)


def row_of(tokens, scores, word_ids, texts):
    return replace(ROW, tokens=tuple(tokens), scores=tuple(scores), word_ids=tuple(word_ids), words=tuple(texts))


def units_of(tokenizer, text):
    return SequenceClassification(tokenizer).units(batch_of(tokenizer, [text]))


def words_of(tokenizer, text):
    """The words of a text as they are shown, each with its score: 1, 2, 4, ... for the tokens in order."""
    units = units_of(tokenizer, text)
    scores = [2.0**i for i in range(len(units.texts[0]))]
    merged = row_of(units.texts[0], scores, units.word_ids[0], units.words[0]).merged()
    assert sum(word.score for word in merged) == sum(scores)  # exact: powers of two
    return merged


def shown(tokenizer, text):
    return [word.text for word in words_of(tokenizer, text)]


# The case itself


def test_t10_words_are_sums_and_specials_stand_alone():
    tokens = ["[CLS]", "the", "play", "##er", "was", "great", "[SEP]"]
    scores = [0.10, 0.02, 0.30, -0.10, 0.05, 0.50, 0.03]
    special = [True, False, False, False, False, False, True]
    tokenizer = wordpiece()
    ids = words.group(tokens, special, "continues", tokenizer.convert_tokens_to_string)
    assert ids == (None, 0, 1, 1, 2, 3, None)
    merged = row_of(tokens, scores, ids, words.texts(tokens, ids, tokenizer.convert_tokens_to_string)).merged()
    assert [word.text for word in merged] == ["[CLS]", "the", "player", "was", "great", "[SEP]"]
    assert [word.score for word in merged] == pytest.approx([0.10, 0.02, 0.20, 0.05, 0.50, 0.03])
    assert sum(word.score for word in merged if not word.special) == pytest.approx(0.77)
    assert sum(word.score for word in merged if word.special) == pytest.approx(0.13)
    assert sum(word.score for word in merged) == pytest.approx(0.90) == sum(scores)


@pytest.mark.parametrize(
    ("tokens", "style", "expected"),
    [
        (["He", "##llo"], "continues", (0, 0)),
        (["▁He", "llo"], "begins", (0, 0)),
        (["▁He", "ll", "o"], "begins", (0, 0, 0)),
        (["He", "llo"], "begins", (0, 0)),  # no mark before the first word either
        (["He", "llo</w>"], "ends", (0, 0)),
        (["He", "llo"], "ends", (0, 0)),  # cut in the middle of a word
    ],
)
def test_t10_a_last_word_that_is_split_needs_no_end_token(tokens, style, expected):
    assert words.group(tokens, [False] * len(tokens), style, "".join) == expected


@pytest.mark.parametrize(
    ("marks", "style"), [("{}", "continues"), ("▁{}", "begins"), ("{}</w>", "ends"), ("{}", "whole")]
)
def test_t10_repeated_tokens_stay_separate(marks, style):
    tokens = [marks.format(word) for word in ("the", "cat", "the", "the")]
    ids = words.group(tokens, [False] * 4, style, "".join)
    assert ids == (0, 1, 2, 3)
    merged = row_of(tokens, [1.0, 2.0, 4.0, 8.0], ids, words.texts(tokens, ids, "".join)).merged()
    assert [word.score for word in merged] == [1, 2, 4, 8]


def test_a_special_token_in_the_middle_ends_a_word():
    tokens, special = ["play", "[SEP]", "##er", "##s"], [False, True, False, False]
    ids = words.group(tokens, special, "continues", "".join)
    assert ids == (0, None, 1, 1)
    merged = row_of(tokens, [1.0, 2.0, 4.0, 8.0], ids, words.texts(tokens, ids, "".join)).merged()
    assert [(word.score, word.special) for word in merged] == [(1, False), (2, True), (12, False)]


def test_nothing_but_special_tokens():
    ids = words.group(["[CLS]", "[SEP]"], [True, True], "continues", "".join)
    assert ids == (None, None)
    assert words.texts(["[CLS]", "[SEP]"], ids, "".join) == ()
    assert words.group([], [], "begins", "".join) == ()


@pytest.mark.parametrize(
    ("vocabulary", "style"),
    [
        (["[CLS]", "the", "##er", "##s", "a"], "continues"),
        (["<s>", "Ġthe", "er", "Ġa", "##"], "begins"),
        (["<s>", "▁the", "er", "▁"], "begins"),
        (["the</w>", "er</w>", "th"], "ends"),
        (["the", "cat", "##"], "whole"),
        ([], "whole"),
    ],
)
def test_the_style_is_read_off_the_vocabulary(vocabulary, style):
    assert words.mark_style(vocabulary) == style


# Tokenizers


def test_wordpiece():
    assert shown(wordpiece(), "he is unaffable .") == ["[CLS]", "he", "is", "unaffable", ".", "[SEP]"]
    assert shown(wordpiece(), "zzz player") == ["[CLS]", "[UNK]", "player", "[SEP]"]


def test_padding_is_in_no_word():
    tokenizer = wordpiece(padding_side="left")
    units = SequenceClassification(tokenizer).units(batch_of(tokenizer, ["the player", "un film was good"]))
    assert units.word_ids == ((None, None, 0, 1, 1, None), (None, 0, 1, 2, 3, None))
    assert units.padding.tolist() == [[True, False, False, False, False, False], [False] * 6]
    assert units.special.tolist() == [
        [False, True, False, False, False, True],
        [True, False, False, False, False, True],
    ]


SENTENCES = ["the player was great, not bad", "a dull film", "don't you like well-made films?", "great (very great)!"]


@pytest.fixture(scope="module")
def byte_level():
    """A byte-level BPE that has seen no character but those of SENTENCES: all others are cut into bytes."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(SENTENCES * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def test_byte_level_is_really_cut(byte_level):
    assert len(byte_level.tokenize("fil")) >= 1
    assert byte_level.tokenize("é") == ["Ã", "©"]
    assert len(byte_level.tokenize("😀")) == 4
    assert len(byte_level.tokenize("好")) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the player was great", ["the", "player", "was", "great"]),
        ("the players, the film!", ["the", "players", ",", "the", "film", "!"]),
        ("not bad (very great)", ["not", "bad", "(", "very", "great", ")"]),
        ("don't like well-made films", ["don't", "like", "well-made", "films"]),
        ("the the the", ["the", "the", "the"]),
        ("filming", ["filming"]),
        ("好电影", ["好", "电", "影"]),
        ("great 好 film", ["great", "好", "film"]),
        ("great好film", ["great", "好", "film"]),
        ("great 😀", ["great", "😀"]),
        ("great😀bad", ["great", "😀", "bad"]),
        ("été", ["été"]),
        ("bad café", ["bad", "café"]),
        ("naïve film", ["naïve", "film"]),
        ("кино was great", ["кино", "was", "great"]),
        ("the � film was �", ["the", "�", "film", "was", "�"]),  # mojibake that is in the text itself
        ("“great”", ["“", "great", "”"]),
    ],
)
def test_byte_level_words(byte_level, text, expected):
    assert shown(byte_level, text) == expected


@pytest.mark.parametrize(("text", "expected"), [("the\nfilm", ["the", "film"]), ("the\tfilm", ["the", "film"])])
def test_any_white_space_parts_words(byte_level, text, expected):
    assert [word for word in shown(byte_level, text) if word not in ("Ċ", "ĉ")] == expected


@pytest.mark.parametrize("text", [*SENTENCES, "a  b", "  the", "好é😀x!", "the\n\nfilm", "", "�"])
def test_byte_level_loses_nothing(byte_level, text):
    if text:
        merged = words_of(byte_level, text)  # asserts the sum
        assert all(word.text for word in merged)
        assert "".join("".join(word.text.split()) for word in merged if not set(word.text) <= set("ĠĊ")) == "".join(
            text.split()
        )


@pytest.fixture(scope="module")
def marked():
    """What SentencePiece makes: ``▁`` where a word begins, and bytes for what it has not seen."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        "<pad>",
        "▁",
        "▁the",
        "▁play",
        "er",
        "▁great",
        "▁He",
        "llo",
        "s",
        ",",
        "▁don",
        "'",
        "t",
    ]
    pieces += ["好", "片", *[f"<0x{byte:02X}>" for byte in range(256)]]
    inner = Tokenizer(
        models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=0, byte_fallback=True)
    )
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("the player", ["the", "player"]),
        ("the players, the play", ["the", "players", ",", "the", "play"]),
        ("Hello", ["Hello"]),
        ("don't", ["don't"]),
        ("the好片", ["the", "好", "片"]),
        ("the é the", ["the", "é", "the"]),
        ("the😀s", ["the", "😀", "s"]),
    ],
)
def test_sentencepiece_words(marked, text, expected):
    found = shown(marked, text)
    assert [word for word in found if word != "▁"] == expected


@pytest.fixture(scope="module")
def ends():
    """What GPT-1 and CLIP have: ``</w>`` where a word ends."""
    pieces = [
        "<unk>",
        "<pad>",
        "t",
        "h",
        "e",
        "e</w>",
        "th",
        "the</w>",
        "p",
        "l",
        "a",
        "y",
        "y</w>",
        "pl",
        "ay",
        "play",
        "play</w>",
    ]
    pieces += ["r</w>", "er</w>", "!</w>"]
    merges = [("t", "h"), ("th", "e</w>"), ("p", "l"), ("a", "y"), ("pl", "ay"), ("a", "y</w>"), ("e", "r</w>")]
    pieces.insert(-1, "ay</w>")
    inner = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, merges, unk_token="<unk>", end_of_word_suffix="</w>")
    )
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.BPEDecoder(suffix="</w>")
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")


@pytest.mark.parametrize(
    ("text", "expected"), [("the player!", ["the", "player", "!"]), ("the the", ["the", "the"]), ("player", ["player"])]
)
def test_words_with_a_mark_at_their_end(ends, text, expected):
    assert shown(ends, text) == expected


def test_a_vocabulary_without_marks_has_a_word_a_token():
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", "the", "film", "s"])}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", unk_token="<unk>")
    assert shown(tokenizer, "the film s the") == ["the", "film", "s", "the"]
