"""What every method's record owes its reader: values or reasons for them, in every form in which a record is shown."""

import json

import pytest
from tiny import REFERENCES, classifier, wordpiece

import lightning_interpret
from lightning_interpret import AttributionRow
from lightning_interpret.methods import METHODS
from lightning_interpret.report import image, interpret_summary, jsonl, markdown, terminal

#: Options that make a method quick here; every method of the registry is tried.
OPTIONS = {
    "expected_gradients": {"samples": 4},
    "kernel_shap": {"samples": 24},
    "lime": {"samples": 24},
    "sequential_integrated_gradients": {"steps": 2, "tolerance": None},
    "smooth_grad": {"samples": 2},
}
TEXTS = ["he is unaffable and dull", "dull", ""]
#: Where scores are measured from, what they are to sum to, by how much they miss it, and how that was found.
MEASURED = ("baseline", "baseline_target", "attribution_target", "error", "relative_error")
FOUND = ("baseline_entropy", "partial_error", "converged", "steps", "cut")


@pytest.fixture(scope="module")
def rows():
    """Return a function from a method's name to the rows of some texts."""
    model, found = classifier("bert"), {}

    def rows(name, **options):
        method = METHODS[name](**OPTIONS.get(name, {}))
        drawn = method.baseline_used is not None and method.baseline_used.drawn
        given = {"references": list(REFERENCES)} if drawn else {}
        key = (name, *options.values())
        if key not in found:
            found[key] = list(lightning_interpret.explain(model, wordpiece(), TEXTS, method=method, **given, **options))
        return found[key]

    return rows


@pytest.mark.parametrize("name", METHODS)
def test_a_record_has_baseline_target_and_error_or_says_that_it_ranks(rows, name):
    for row in rows(name):
        given = {field: getattr(row, field) is not None for field in MEASURED}
        assert len(set(given.values())) == 1, given  # all or none
        for field in (*MEASURED, *FOUND):
            assert (getattr(row, field) is None) == (field in row.reasons), field
        if given["error"]:
            assert sum(row.scores) - row.attribution_target == pytest.approx(row.error, abs=1e-5)
        else:
            assert "ranks" in row.reasons["attribution_target"]
            assert METHODS[name]().baseline_name == "none: it ranks"


@pytest.mark.parametrize("name", METHODS)
def test_a_record_is_shown_in_every_form(rows, name, tmp_path):
    for row in rows(name):
        assert name in str(row)
        assert row.target_name.split("_")[0] in markdown.render(row)
        assert name in terminal.render(row, colour=True)
        assert row._repr_html_()
        assert image.render(row).size[0] > 0
        pages = interpret_summary.payloads(row, monitor="saliency", step=1, probe=0)
        assert interpret_summary.join(pages) == AttributionRow.from_dict(row.to_dict())
        jsonl.append(tmp_path / "rows.jsonl", [row.to_dict()])
    read = [AttributionRow.from_dict(line) for line in jsonl.read(tmp_path / "rows.jsonl")]
    assert [row.to_dict() for row in read] == [row.to_dict() for row in rows(name)]
    assert json.dumps([row.to_dict() for row in read], allow_nan=False)


#: What a method that cannot explain an output says instead.
REFUSED = {("layerwise_relevance", "log_prob"), ("layerwise_relevance", "prob"), ("difference_map", "margin")}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("which", "output"), [("LABEL_0-LABEL_2", "logit"), ("LABEL_1", "log_prob"), ("LABEL_1", "prob")]
)
def test_classes_contrasts_and_outputs_are_explained_or_refused(rows, name, which, output):
    if (name, output) in REFUSED:
        with pytest.raises(ValueError, match=f"`output='{output}'`"):
            rows(name, which=which, output=output)
        return
    for row in rows(name, which=which, output=output):
        assert row.target_name.startswith(which)  # a difference map names what it subtracts
        assert row.output == output
    if not hasattr(METHODS[name], "repaired"):  # what is negative is cut off a drawn map, and may be all
        assert any(rows(name, which=which, output=output)[0].scores)
