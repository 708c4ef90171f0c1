import io
import json
from types import SimpleNamespace

import pytest
from bad_case_records import CASE, GROUP, OVERVIEW
from evidence import influence, landmarks, near
from PIL import Image
from records import NASTY, row
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto import summary_pb2
from torch.utils.tensorboard import SummaryWriter

from lightning_interpret.report import image, interpret_summary, markdown, writer
from lightning_interpret.report.presenters import PRESENTERS, presenter_of, row_of


@pytest.fixture
def logger(tmp_path):
    experiment = SummaryWriter(str(tmp_path))
    yield SimpleNamespace(experiment=experiment, log_dir=str(tmp_path))
    experiment.close()


def _read(logger):
    return EventAccumulator(logger.log_dir, size_guidance={"tensors": 0, "images": 0}).Reload()


def test_a_row_is_there_as_picture_text_and_interpret_summary(logger):
    sample = row(NASTY)
    assert writer.can_show(logger)
    for step in (5, 9):
        writer.write(logger, sample, name="saliency", probe=2, step=step)
    writer.flush(logger)
    events = _read(logger)
    tag = "interpret/saliency/probe_2"
    assert events.Tags()["images"] == [f"{tag}/image"]
    assert set(events.Tags()["tensors"]) == {tag, f"{tag}/text/text_summary"}

    metadata = events.SummaryMetadata(tag)
    assert metadata.plugin_data.plugin_name == "interpret"
    assert metadata.data_class == summary_pb2.DATA_CLASS_TENSOR
    assert [event.step for event in events.Tensors(tag)] == [5, 9]
    assert join_of(events, [tag], 1) == sample

    text = events.Tensors(f"{tag}/text/text_summary")[0]
    assert (text.step, text.tensor_proto.string_val[0].decode()) == (5, markdown.render(sample))

    picture = events.Images(f"{tag}/image")[1]
    decoded = Image.open(io.BytesIO(picture.encoded_image_string))
    assert picture.step == 9
    assert decoded.convert("RGB").tobytes() == image.render(sample).tobytes()


def join_of(events, tags, index):
    return interpret_summary.join(events.Tensors(t)[index].tensor_proto.string_val[0].decode() for t in tags)


def test_a_long_row_is_there_in_pages(logger):
    sample = row([f"w{i}" for i in range(3000)])
    writer.write(logger, sample, name="saliency", probe=0, step=1)
    writer.flush(logger)
    events = _read(logger)
    tags = sorted(t for t in events.Tags()["tensors"] if "/text" not in t)
    assert len(tags) > 1
    assert tags == sorted(interpret_summary.tag("saliency", 0, page) for page in range(1, len(tags) + 1))
    assert join_of(events, tags, 0) == sample


def test_a_row_that_cannot_be_paged_writes_nothing(logger):
    with pytest.raises(ValueError, match="does not fit"):
        writer.write(logger, row(["x" * 70_000]), name="saliency", probe=0, step=1)
    writer.flush(logger)
    assert not _read(logger).Tags()["tensors"] + _read(logger).Tags()["images"]


@pytest.mark.parametrize(
    "sample",
    [row(NASTY), influence(neighbors=near()), near(), landmarks(), CASE, GROUP, OVERVIEW],
    ids=lambda sample: sample.kind,
)
def test_a_row_of_any_kind_is_written_alike(logger, sample):
    shown = PRESENTERS[sample.kind]
    writer.write(logger, sample, name="any", probe=1, step=3)
    writer.flush(logger)
    events = _read(logger)
    tag = interpret_summary.tag("any", 1)
    assert join_of(events, [tag], 0) == row_of(sample.to_dict()) == sample
    metadata = events.SummaryMetadata(tag)
    assert json.loads(metadata.plugin_data.content) == {"version": 1, "kind": sample.kind}
    assert metadata.summary_description == shown.description
    (text,) = events.Tensors(f"{tag}/text/text_summary")
    assert text.tensor_proto.string_val[0].decode() == shown.markdown(sample)
    (picture,) = events.Images(f"{tag}/image")
    assert picture.width == shown.picture(sample).width


def test_a_kind_that_nothing_shows_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"'rumour'; there are 'attention', 'attribution', .*'landmarks'"):
        presenter_of("rumour")
    with pytest.raises(ValueError, match="No record is of kind None"):
        row_of({})


class _Dummy:
    """Lightning's experiment on other ranks and in fast_dev_run: every method is there and does nothing."""

    def __getattr__(self, name):
        return lambda *args, **kwargs: None


@pytest.mark.parametrize(
    "other",
    [None, object(), SimpleNamespace(experiment=None), SimpleNamespace(experiment=_Dummy())],
    ids=["no logger", "no experiment", "empty experiment", "dummy experiment"],
)
def test_other_loggers_are_not_written_to(other):
    assert not writer.can_show(other)
