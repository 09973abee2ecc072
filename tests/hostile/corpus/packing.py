"""Archives of class folders with one thing wrong, in zip, tar and gzipped tar."""

import gzip
import io
import struct
import tarfile
import warnings
import zipfile
from typing import Any

from hostile.case import Make
from plugins.forge import Forge

PACKINGS = ("zip", "tar", "tar_gz")


def packed(packing: str, name: str, body: bytes | None = None) -> Make:
    """A good dataset with one more file."""
    return lambda forge: getattr(forge, packing)(
        {**forge.folder(), name: forge.png() if body is None else body}
    )


def with_zip_entry(body: bytes = b"x", name: str = "train/cat/9.png", **attributes: Any) -> Make:
    """A good zip with one more entry, of any attributes."""

    def make(forge: Forge) -> bytes:
        info = zipfile.ZipInfo(name)
        for attribute, value in attributes.items():
            setattr(info, attribute, value)
        content = io.BytesIO(forge.zip(forge.folder()))
        with zipfile.ZipFile(content, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zipfile warns of duplicates, which are what some cases are
            archive.writestr(info, body)
        return content.getvalue()

    return make


def with_tar_member(
    kind: bytes = tarfile.REGTYPE,
    name: str = "train/cat/9.png",
    *,
    gzipped: bool = False,
    body: bytes = b"",
    **more: Any,
) -> Make:
    """A good tar with one more member, of any kind and any header."""

    def make(forge: Forge) -> bytes:
        info = tarfile.TarInfo(name)
        info.type, info.size = kind, len(body)
        for attribute, value in more.items():
            setattr(info, attribute, value)
        content = io.BytesIO()
        with tarfile.open(
            fileobj=content, mode="w", format=more.get("format", tarfile.PAX_FORMAT)
        ) as archive:
            for path, image in forge.folder().items():
                good = tarfile.TarInfo(path)
                good.size = len(image)
                archive.addfile(good, io.BytesIO(image))
            archive.addfile(info, io.BytesIO(body))
        return gzip.compress(content.getvalue()) if gzipped else content.getvalue()

    return make


def raw_tar(*blocks: bytes) -> bytes:
    """A tar of these headers and bodies, ended as it should be."""
    return b"".join(block + bytes(-len(block) % 512) for block in blocks) + bytes(1024)


def header(
    name: str = "train/cat/0.png", kind: bytes = b"0", size: bytes = b"00000000000", link: bytes = b""
) -> bytes:
    """A tar header of any size field, with the right checksum."""
    block = bytearray(512)
    block[:100] = name.encode()[:100].ljust(100, b"\0")
    block[100:124] = b"0000644\x000000000\x000000000\x00"
    block[124:136] = size.ljust(12, b"\0")
    block[136:148] = b"00000000000\0"
    block[156:157] = kind
    block[157:257] = link.ljust(100, b"\0")
    block[257:265] = b"ustar\x0000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(**records: str) -> bytes:
    """The body of a pax header."""
    body = b""
    for key, value in records.items():
        text = f" {key.replace('__', '.')}={value}\n".encode(errors="surrogateescape")
        length = len(text) + 1
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        body += str(length).encode() + text
    return body


def with_pax(kind: bytes = b"x", body: bytes | None = None, **records: str) -> Make:
    """A tar whose first member follows a pax header of these records."""

    def make(forge: Forge) -> bytes:
        told = pax(**records) if body is None else body
        image = forge.png()
        first = header("PaxHeader", kind, b"%011o" % len(told))
        return raw_tar(first, told, header(size=b"%011o" % len(image)), image)

    return make


def little(value: int, size: int) -> bytes:
    """An unsigned number as zip has it."""
    return struct.pack({2: "<H", 4: "<I", 8: "<Q"}[size], value)
