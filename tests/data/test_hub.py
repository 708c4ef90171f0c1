import subprocess
import sys

import pytest

from lightning_interpret.data import TextRow, hub_rows

datasets = pytest.importorskip("datasets")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A data set with two splits, saved to disk."""
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
            "score": datasets.Value("float64"),
        }
    )
    rows = {"id": [10, 11], "text": ["good food", "bad food"], "label": [1, 0], "score": [1.0, 0.5]}
    train = datasets.Dataset.from_dict(rows, features=features)
    unlabelled = datasets.Dataset.from_dict({**rows, "label": [-1, -1]}, features=features)
    folder = str(tmp_path_factory.mktemp("hub") / "saved")
    datasets.DatasetDict({"train": train, "test": unlabelled}).save_to_disk(folder)
    return folder


def test_class_labels_become_their_names(saved):
    assert list(hub_rows(saved)) == [TextRow("good food", "positive", 1, 0), TextRow("bad food", "negative", 2, 1)]


def test_columns_and_ids(saved):
    rows = list(hub_rows(saved, split="test", label_column=None, id_column="id"))
    assert rows == [TextRow("good food", None, 1, 10), TextRow("bad food", None, 2, 11)]


def test_a_saved_format_is_taken_off(saved, tmp_path):
    train = datasets.load_from_disk(saved)["train"].with_format("numpy")
    train.save_to_disk(tmp_path / "one")
    assert [row.label for row in hub_rows(str(tmp_path / "one"))] == ["positive", "negative"]


def test_local_folder(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "train.csv").write_text("text,label\ngood food,1\nbad food,0\n")
    assert [(row.text, row.label) for row in hub_rows(str(tmp_path / "reviews"))] == [
        ("good food", "1"),
        ("bad food", "0"),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "validation"}, r"`split='validation'` does not exist.*There is: train, test"),
        ({"text_column": "texts"}, r"\[train\]: `text_column='texts'`.*Did you mean 'text'\?.*id, text, label, score"),
        ({"label_column": "gold"}, r"\[train\]: `label_column='gold'`"),
        ({"subset": "small"}, r"`subset='small'`.*saved to disk"),
    ],
)
def test_wrong_names_are_refused_at_once(saved, options, message):
    with pytest.raises(ValueError, match=message):
        hub_rows(saved, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"\[test\], row 1: column 'label' has no label"),
        ({"text_column": "id"}, r"\[train\], row 1: column 'id' holds 10 \(int\), not a text"),
        ({"label_column": "score"}, r"\[train\], row 2: column 'score' holds 0\.5 \(float\)"),
    ],
)
def test_wrong_values_are_named_by_row(saved, options, message):
    with pytest.raises(ValueError, match=message):
        list(hub_rows(saved, **options))


def test_without_datasets_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r'pip install "lightning-interpret\[data\]"'):
        hub_rows("imdb")


def test_readers_load_neither_torch_nor_datasets():
    code = (
        "import sys, lightning_interpret.data as data; assert data.read_rows and data.hub_rows;"
        "assert not {'torch', 'datasets', 'lightning', 'transformers'} & sys.modules.keys();"
        "assert data.ReviewCorpus and 'torch' in sys.modules; assert 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_are_attribute_errors():
    import lightning_interpret.data as data

    with pytest.raises(AttributeError, match="ReviewCorpora"):
        data.ReviewCorpora  # noqa: B018
