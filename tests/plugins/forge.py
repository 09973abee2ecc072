"""A forge that makes uploads, good and bad."""

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from abcore.architectures import build_model
from abcore.specs.architectures import ImageShape, ModelSpec, WideResNet

MODEL = ModelSpec(
    architecture=WideResNet(arch="wide_resnet", depth=10, width=1),
    image=ImageShape(channels=1, height=8, width=8),
    num_classes=3,
)


class Forge:
    """Makes the bytes of uploads."""

    def png(
        self, value: int = 0, size: tuple[int, int] = (8, 8), mode: str = "L", format: str = "PNG"
    ) -> bytes:
        """An image that no other `value` gives."""
        pixels = np.random.default_rng(value).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        return self.image(Image.fromarray(pixels).convert(mode), format)

    def image(self, image: Image.Image, format: str = "PNG") -> bytes:
        content = io.BytesIO()
        image.save(content, format)
        return content.getvalue()

    def folder(self, train: int = 4, val: int = 0, test: int = 2, **image: Any) -> dict[str, bytes]:
        """The files of an ImageFolder with classes `cat` and `dog`, so many images a class."""
        counts = {"train": train, "val": val, "test": test}
        places = [(s, c, i) for s, count in counts.items() for c in ("cat", "dog") for i in range(count)]
        return {
            f"{split}/{name}/{i}.png": self.png(number, **image)
            for number, (split, name, i) in enumerate(places)
        }

    def zip(self, files: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w", compression) as archive:
            for name, body in files.items():
                archive.writestr(name, body)
        return content.getvalue()

    def tar(self, files: Mapping[str, bytes], *special: tarfile.TarInfo) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for name, body in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
            for info in special:
                archive.addfile(info)
        return content.getvalue()

    def tar_gz(self, files: Mapping[str, bytes]) -> bytes:
        return gzip.compress(self.tar(files))

    def npz(self, **arrays: Any) -> bytes:
        content = io.BytesIO()
        np.savez(content, **arrays)
        return content.getvalue()

    def npy(self, header: str, body: bytes = b"") -> bytes:
        """A .npy file with any text for a header."""
        padded = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(padded)) + padded + body

    def idx(self, array: Any) -> bytes:
        return (
            b"\x00\x00\x08"
            + bytes([array.ndim])
            + struct.pack(f">{array.ndim}I", *array.shape)
            + array.tobytes()
        )

    def state(self, model: ModelSpec = MODEL) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return build_model(model).state_dict()

    def torch(self, content: Any, **options: Any) -> bytes:
        file = io.BytesIO()
        torch.save(content, file, **options)
        return file.getvalue()

    def torch_zip(self, program: bytes, **storages: bytes) -> bytes:
        """A file in PyTorch's format around any pickle."""
        data = {f"archive/data/{name}": content for name, content in storages.items()}
        return self.zip({"archive/data.pkl": program, "archive/version": b"3\n", **data})
