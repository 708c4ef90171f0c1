"""Small pictures as text: data URIs."""

from __future__ import annotations

from base64 import b64decode, b64encode
from io import BytesIO

from PIL import Image


def decoded(uri: str | None) -> Image.Image | None:
    """Return the picture that a data URI holds, or ``None`` where there is none or it cannot be read."""
    head, comma, data = (uri or "").partition(";base64,")
    if not comma or not head.startswith("data:image/"):
        return None
    try:
        with Image.open(BytesIO(b64decode(data)), formats=("PNG", "JPEG")) as picture:
            return picture.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # cut off, of another kind, or a trap
        return None


def encoded(picture: Image.Image, side: int) -> str:
    """Return a picture, its longer side at most ``side`` pixels, as a data URI of a JPEG."""
    small = picture.convert("RGB")
    small.thumbnail((side, side))
    packed = BytesIO()
    small.save(packed, "JPEG", quality=80)
    return "data:image/jpeg;base64," + b64encode(packed.getvalue()).decode()
