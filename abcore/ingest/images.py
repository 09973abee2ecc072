"""Image files, decoded by Pillow into uint8 pixels; sizes are checked before a pixel is decoded."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

Pixels = npt.NDArray[np.uint8]
"""(H, W, C) uint8, C being 1 (grey) or 3 (RGB)."""

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
MOST_PIXELS = 50_000_000
MOST_FILE_BYTES = 256 * 2**20
_GREY_MODES = frozenset({"1", "L", "LA"})

# Checked here, before decoding and with a limit of our own; Pillow's own check would warn first.
Image.MAX_IMAGE_PIXELS = None


class BrokenImage(Exception):
    """An image file cannot be decoded; the message says why."""


def decode(content: bytes, image_size: int | None) -> Pixels:
    """Decode one image file.

    Args:
        content: the file's bytes.
        image_size: if given, the middle square is scaled to this side.

    Raises:
        BrokenImage: no known format, too many pixels, or damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MOST_PIXELS:
                raise BrokenImage(
                    f"has {image.width}x{image.height} pixels; accepted are 1 to {MOST_PIXELS:,}"
                )
            return _to_pixels(image, image_size)
    except UnidentifiedImageError as error:
        raise BrokenImage("is in none of the formats " + ", ".join(FORMATS)) from error
    except (BrokenImage, MemoryError):
        raise
    except Exception as error:
        # What Pillow's decoders raise on damaged files is a long list, and grows with its formats.
        raise BrokenImage(f"is damaged: {str(error)[:200]}") from error


def resize(pixels: Pixels, image_size: int) -> Pixels:
    """Scale the middle square to `image_size` pixels a side, bilinear and antialiased."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return _to_pixels(image, image_size)


def _to_pixels(image: Image.Image, image_size: int | None) -> Pixels:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip at 255
    elif image.mode in ("I", "F"):
        raise BrokenImage(
            f"has pixels of 32 bits (mode {image.mode}), whose range is unknown; save it with 8 or 16"
        )
    converted = image.convert("L" if image.mode in _GREY_MODES else "RGB")
    if image_size is not None and converted.size != (image_size, image_size):
        # The middle square is cut out first: scaled as a whole, a line of pixels would become a wall of them.
        width, height = converted.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        converted = converted.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(converted)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
