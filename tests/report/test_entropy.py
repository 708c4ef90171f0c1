"""The entropy of the prediction at x' stands beside F(x') wherever a record is shown."""

from records import row

from lightning_interpret.report import frame, markdown, terminal

NOTE = "the baseline is itself classified as 'positive' with probability 0.97: what the scores explain is the way ..."


def test_it_is_shown_with_its_note():
    shown = row(baseline_entropy=0.4321, notes=(NOTE,))
    assert "baseline pad = -0.125 (entropy 43%)" in shown.summary()
    assert NOTE in str(shown)
    assert "entropy 43%" in terminal.render(shown, colour=False)
    assert "| baseline entropy | 43% of the largest |" in markdown.render(shown)
    assert ("baseline entropy 43%", frame.GREY) in list(frame._facts(shown))


def test_a_record_without_it_says_nothing_of_it():
    shown = row()
    assert "entropy" not in str(shown)
    assert "entropy" not in "".join(text for text, _ in frame._facts(shown))
    assert "entropy" not in markdown.render(shown)
