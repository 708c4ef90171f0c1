"""Colours of a signed score: orange against, blue for; told apart by colour-blind readers.

The two ends are the orange and the blue of Okabe and Ito (2008), mixed with white as the score goes to 0.
"""

FOR = (0, 114, 178)
AGAINST = (213, 94, 0)
_WHITE = (255, 255, 255)


def scale_of(scores: list[float]) -> float:
    """Return the largest absolute score, or 1 where every score is 0: what a picture divides by."""
    return max((abs(score) for score in scores), default=0.0) or 1.0


def background(strength: float) -> tuple[int, int, int]:
    """Return the red, green and blue (0 to 255) of a score divided by its scale, in [-1, 1]."""
    share = min(1.0, abs(strength))
    end = FOR if strength >= 0 else AGAINST
    red, green, blue = (round(white + (colour - white) * share) for white, colour in zip(_WHITE, end, strict=True))
    return red, green, blue


def foreground(strength: float) -> tuple[int, int, int]:
    """Return black or white, whichever reads better on :func:`background` (WCAG relative luminance)."""
    linear = [((c / 255 + 0.055) / 1.055) ** 2.4 if c > 10 else c / 255 / 12.92 for c in background(strength)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else (255, 255, 255)
