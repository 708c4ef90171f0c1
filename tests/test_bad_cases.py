"""The records of bad cases: JSON both ways, nested records included."""

import json

import pytest
from bad_case_records import CASE, RECORDS

from lightning_interpret.bad_cases import CAUSES


@pytest.mark.parametrize("row", RECORDS, ids=lambda row: f"{row.kind}-{getattr(row, 'cause', '')}")
def test_json_both_ways(row):
    assert type(row).from_dict(json.loads(json.dumps(row.to_dict(), allow_nan=False))) == row


def test_what_is_inside_a_case_comes_back_as_records():
    again = type(CASE).from_dict(json.loads(json.dumps(CASE.to_dict())))
    assert again.attribution.merged()[5].text == "tuesday"
    assert again.neighbors.neighbors[0].gold == "positive"
    assert again.verdicts[0].cause in CAUSES
