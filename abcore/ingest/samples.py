"""A sheet of samples: what a dataset looks like, at a glance."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from abcore.data.dataset import Split
from abcore.specs.reports import SampleSheet

_MOST_ROWS = 20
_MOST_COLUMNS = 10
_LARGEST_TILE = 64
_GAP = 2


def write_samples(path: Path, train: Split, classes: tuple[str, ...]) -> SampleSheet:
    """Write a PNG of training images, a row a class; of many classes, some that are evenly spread over them.

    Images are shrunk to 64 pixels at the longer side, and never enlarged.
    """
    num_rows = min(len(classes), _MOST_ROWS)
    rows = tuple(row * len(classes) // num_rows for row in range(num_rows))
    _, _, height, width = train.images.shape
    scale = min(1.0, _LARGEST_TILE / max(height, width))
    tile_height, tile_width = max(1, round(height * scale)) + _GAP, max(1, round(width * scale)) + _GAP
    sheet = Image.new("RGB", (tile_width * _MOST_COLUMNS, tile_height * num_rows), "white")
    for row, label in enumerate(rows):
        of_class = (train.labels == label).nonzero().flatten()
        step = max(1, len(of_class) // _MOST_COLUMNS)
        for column, index in enumerate(of_class[::step][:_MOST_COLUMNS].tolist()):
            tile = _to_image(train.images[index]).resize(
                (tile_width - _GAP, tile_height - _GAP), Image.Resampling.BILINEAR
            )
            sheet.paste(tile, (column * tile_width, row * tile_height))
    sheet.save(path, "PNG")
    return SampleSheet(rows=rows, columns=_MOST_COLUMNS, tile_width=tile_width, tile_height=tile_height)


def _to_image(pixels_CHW: torch.Tensor) -> Image.Image:
    pixels = pixels_CHW.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
