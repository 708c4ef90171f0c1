"""The picture of a comparison: a bar a method, whatever is missing, and texts of any kind."""

import pytest
from records import NASTY
from trust_toys import comparison, method

from lightning_interpret.palette import FOR
from lightning_interpret.records.trust import TrustedMethod, TrustRow
from lightning_interpret.report import trust_picture


def colours(picture):
    return {colour for _, colour in picture.getcolors(1 << 24)}


def test_the_recommended_method_is_in_full_colour_and_none_is_where_none_is():
    assert FOR in colours(trust_picture.render(comparison()))
    assert FOR not in colours(trust_picture.render(comparison(recommended=None)))


@pytest.mark.parametrize(
    "row",
    [
        TrustRow(),
        comparison(control=None),
        comparison(methods=(method("a", gain=-0.2), method("b", gain=0.0))),
        comparison(methods=tuple(TrustedMethod(text, failed=text) for text in NASTY), because=tuple(NASTY)),
        comparison(methods=tuple(method(f"a method of a very long name, number {i}") for i in range(25))),
    ],
)
def test_every_comparison_can_be_drawn(row):
    picture = trust_picture.render(row)
    assert picture.width == 1720
    assert picture.height >= 2 * 34 * len(row.methods)
