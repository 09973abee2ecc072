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


def decode(content: bytes) -> Pixels:
    """Decode one image file.

    Raises:
        BrokenImage: no known format, too many pixels, or damaged.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            if not 0 < image.width * image.height <= MOST_PIXELS:
                raise BrokenImage(
                    f"has {image.width}x{image.height} pixels; accepted are 1 to {MOST_PIXELS:,}"
                )
            return _to_pixels(image)
    except UnidentifiedImageError as error:
        raise BrokenImage("is in none of the formats " + ", ".join(FORMATS)) from error
    except (BrokenImage, MemoryError):
        raise
    except Exception as error:
        # What Pillow's decoders raise on damaged files is a long list, and grows with its formats.
        raise BrokenImage(f"is damaged: {str(error)[:200]}") from error


def resize(pixels: Pixels, image_size: int) -> Pixels:
    """Scale the middle square to `image_size` pixels a side, bilinear and antialiased."""
    height, width, channels = pixels.shape
    if (height, width) == (image_size, image_size):
        return pixels
    # The middle square is cut out first: scaled as a whole, a line of pixels would become a wall of them.
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    box = (left, top, left + side, top + side)
    scaled = image.resize((image_size, image_size), Image.Resampling.BILINEAR, box=box)
    return np.asarray(scaled).reshape(image_size, image_size, channels)


def _to_pixels(image: Image.Image) -> Pixels:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # convert() would clip at 255
    elif image.mode in ("I", "F"):
        raise BrokenImage(
            f"has pixels of 32 bits (mode {image.mode}), whose range is unknown; save it with 8 or 16"
        )
    pixels = np.asarray(image.convert("L" if image.mode in _GREY_MODES else "RGB"))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
