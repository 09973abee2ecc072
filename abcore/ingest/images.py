"""Image files, decoded by Pillow into uint8 pixels; sizes are checked before a pixel is decoded."""

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
"""(H, W, C) uint8, C being 1 (grey) or 3 (RGB)."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
MOST_PIXELS = 50_000_000
_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I", "F"})

# Checked here, before decoding and with a limit of our own; Pillow's own check would warn first.
Image.MAX_IMAGE_PIXELS = None


class BrokenImage(Exception):
    """An image file cannot be decoded; the message says why."""


def decode(content: bytes, image_size: int | None) -> Pixels:
    """Decode one image file.

    Args:
        content: the file's bytes.
        image_size: if given, the shorter side is scaled to it and the longer one cropped around the centre.

    Raises:
        BrokenImage: no known format, too many pixels, or damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise BrokenImage(
                    f"has {image.width}x{image.height} pixels; at most {MOST_PIXELS:,} are accepted"
                )
            return _to_pixels(image, image_size)
    except UnidentifiedImageError as error:
        raise BrokenImage("is in none of the formats " + ", ".join(FORMATS)) from error
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        struct.error,
        zlib.error,
        IndexError,
        KeyError,
        TypeError,
    ) as error:
        # What Pillow's decoders raise on damaged files; the list is theirs and grows with their formats.
        raise BrokenImage(f"is damaged: {error}") from error


def resize(pixels: Pixels, image_size: int) -> Pixels:
    """Scale the shorter side to `image_size` pixels, bilinear and antialiased; crop the longer one to its middle."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return _to_pixels(image, image_size)


def _to_pixels(image: Image.Image, image_size: int | None) -> Pixels:
    converted = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    if image_size is not None and converted.size != (image_size, image_size):
        scale = image_size / min(converted.size)
        width, height = (max(image_size, round(side * scale)) for side in converted.size)
        left, top = (width - image_size) // 2, (height - image_size) // 2
        converted = converted.resize((width, height), Image.Resampling.BILINEAR)
        converted = converted.crop((left, top, left + image_size, top + image_size))
    pixels = np.asarray(converted)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
