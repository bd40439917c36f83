"""Pictures from strangers: the size is read before anything is decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
from PIL import Image

from tal_core.types import InputError

_HINT = "Send a whole baseline or progressive JPEG."
_SMALLER = "Scale it down before sending."


def decode_jpeg(content: bytes, most_pixels: int) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB of a JPEG.

    Raises:
        InputError: if it is no JPEG, is damaged, or has more than ``most_pixels``.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning of large pictures: ours is the limit
            with Image.open(io.BytesIO(content), formats=("JPEG",)) as picture:
                if picture.width * picture.height > most_pixels:
                    what = (
                        f"a picture of {picture.width} x {picture.height} is larger than {most_pixels} pixels"
                    )
                    raise InputError(what, hint=_SMALLER)
                return np.asarray(picture.convert("RGB"))
    except Image.DecompressionBombError:
        raise InputError(f"a picture is larger than {most_pixels} pixels", hint=_SMALLER) from None
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        reason = str(error).split("<", maxsplit=1)[0].strip(" :")[:100] or type(error).__name__
        raise InputError(f"the picture can't be decoded ({reason})", hint=_HINT) from None
