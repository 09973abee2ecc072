"""The demo's images: uint8, in a training and a test split, as one .npz that the service takes."""

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from abcore.specs.architectures import ImageShape, Normalization

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]

HELD_OUT_FRACTION = 0.2
SPLIT_SEED = 0
FASHION_TRAIN_IMAGES = 6000
FASHION_TEST_IMAGES = 2000


@dataclass(frozen=True)
class Data:
    """Images (N, H, W) uint8 of one channel and labels (N,) int64, by split."""

    title: str
    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels

    @property
    def image(self) -> ImageShape:
        """The shape of one image."""
        _, height, width = self.train_images.shape
        return ImageShape(channels=1, height=height, width=width)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return int(self.train_labels.max()) + 1

    @property
    def normalization(self) -> Normalization:
        """Mean and standard deviation of the training pixels, in the [0, 1] range."""
        pixels = self.train_images / 255.0
        return Normalization(mean=(float(pixels.mean()),), std=(float(pixels.std()),))

    def save(self, path: Path) -> None:
        """Write the .npz that is uploaded."""
        np.savez_compressed(
            path,
            train_images=self.train_images,
            train_labels=self.train_labels,
            test_images=self.test_images,
            test_labels=self.test_labels,
        )


def load(name: str, folder: Path | None) -> Data:
    """The dataset of that name.

    Raises:
        SystemExit: the name is unknown, or the folder does not hold the files; says which are wanted.
    """
    if name == "digits":
        return _digits()
    if name == "fashion-mnist":
        if folder is None:
            raise SystemExit(
                "DATASET=fashion-mnist needs DATA=path: the folder with its four idx files "
                "({train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, gzipped or not)"
            )
        return _fashion_mnist(folder)
    raise SystemExit(f"DATASET={name} is unknown: use digits or fashion-mnist")


def _digits() -> Data:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels; a stratified fifth is held out as the test split."""
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target.astype(np.int64)
    train_images, test_images, train_labels, test_labels = train_test_split(
        pixels, labels, test_size=HELD_OUT_FRACTION, stratify=labels, random_state=SPLIT_SEED
    )
    return Data("scikit-learn digits", train_images, train_labels, test_images, test_labels)


def _fashion_mnist(folder: Path) -> Data:
    """28x28 pictures of clothes. A stratified part of them: all 60,000 would take two cores more than an hour."""
    parts = []
    for file, count in (("train", FASHION_TRAIN_IMAGES), ("t10k", FASHION_TEST_IMAGES)):
        images = _read_idx(folder, f"{file}-images-idx3-ubyte")
        labels = _read_idx(folder, f"{file}-labels-idx1-ubyte").astype(np.int64)
        chosen, _ = train_test_split(
            np.arange(len(labels)), train_size=count, stratify=labels, random_state=SPLIT_SEED
        )
        parts += [images[chosen], labels[chosen]]
    title = f"Fashion-MNIST ({FASHION_TRAIN_IMAGES:,} training images)"
    return Data(title, *parts)


def _read_idx(folder: Path, file: str) -> Images:
    """One idx file: two zero bytes, the type (8: uint8), the rank, the sizes as big-endian uint32, the values."""
    for path in (folder / file, folder / f"{file}.gz"):
        if path.is_file():
            content = path.read_bytes()
            break
    else:
        raise SystemExit(f"{folder} holds neither {file} nor {file}.gz")
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    magic, rank = content[:3], content[3]
    if magic != b"\0\0\x08":
        raise SystemExit(f"{path} is no idx file of bytes")
    sizes = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(sizes)
