"""Archives that unfold, and zip and tar headers that lie about sizes, methods and sums."""

import gzip
import struct
import zipfile
from collections.abc import Iterator

from hostile.case import Case, Make, family
from hostile.corpus.packing import header, pax, raw_tar, with_pax, with_zip_entry
from plugins.forge import Forge

BOMB, DAMAGED, SPECIAL = "archive.bomb", "archive.damaged", "archive.special_file"
_ZEROS = 30 * 2**20
_NAME = "train/cat/0.png"


def _zip(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Make:
    return lambda forge: forge.zip(files, method)


def _quoted(forge: Forge) -> bytes:
    """Fifield's bomb in small: every entry of the directory is the same kernel of zeros."""
    kernel = forge.zip({"k": bytes(2 * 2**20)}, zipfile.ZIP_DEFLATED)
    at = kernel.index(b"PK\x01\x02")
    entry, end = kernel[at : kernel.index(b"PK\x05\x06")], bytearray(kernel[kernel.index(b"PK\x05\x06") :])
    entries = b"".join(
        entry[:28] + struct.pack("<H", len(name)) + entry[30:46] + name
        for name in (f"train/cat/{number}.png".encode() for number in range(500))
    )
    struct.pack_into("<HHI", end, 8, 500, 500, len(entries))
    return kernel[:at] + entries + bytes(end)


def _nested(forge: Forge) -> bytes:
    """A zip in a zip in a zip: nothing is opened but the outermost."""
    content = forge.zip({_NAME: bytes(2**20)}, zipfile.ZIP_DEFLATED)
    for depth in range(8):
        content = forge.zip({f"train/{n}/{depth}.zip": content for n in "ab"}, zipfile.ZIP_DEFLATED)
    return content


def _patched(forge: Forge, offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> bytes:
    upload = bytearray(forge.zip(forge.folder()))
    at = upload.rindex(signature) + offset
    upload[at : at + len(value)] = value
    return bytes(upload)


def _patch(offset: int, value: bytes, signature: bytes = b"PK\x01\x02") -> Make:
    return lambda forge: _patched(forge, offset, value, signature)


def _overlapping(forge: Forge) -> bytes:
    upload = bytearray(forge.zip({_NAME: bytes(4000), "train/cat/1.png": b"x"}))
    at = upload.rindex(b"PK\x01\x02")
    struct.pack_into("<II", upload, at + 20, 4000, 4000)
    struct.pack_into("<I", upload, at + 42, 0)
    return bytes(upload)


def _crc(forge: Forge) -> bytes:
    body = forge.png(0)
    return forge.zip(forge.folder()).replace(body, body[:-20] + b"?" + body[-19:], 1)


def _gzip_sum(forge: Forge) -> bytes:
    upload = bytearray(forge.tar_gz(forge.folder()))
    upload[-8] ^= 1
    return bytes(upload)


def _long_names(count: int) -> Make:
    """Headers that say the next header's name, one after the other: a reader that calls itself for each gets lost."""
    return lambda forge: gzip.compress(
        raw_tar(*[header("././@LongLink", b"L", b"00000000001"), b"a"] * count)
    )


def _sized(size: bytes) -> Make:
    return lambda _: raw_tar(header(size=size), b"x")


def _gz_name(forge: Forge) -> bytes:
    """A gzip whose own header never ends."""
    return b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 3 * 2**20


def cases() -> Iterator[Case]:
    """All of them."""
    yield from family(
        "zip bombs",
        "dataset",
        {
            "a thousandfold": (_zip({_NAME: bytes(_ZEROS)}), BOMB, f"archive:{_NAME}"),
            "500 entries over one kernel": (_quoted, DAMAGED),
            "entries that overlap": (_overlapping, DAMAGED),
            "zips in zips": (_nested, "dataset.no_class_folders"),
            "in a file that is no image": (
                _zip({"README.md": bytes(_ZEROS)}),
                "archive.bomb|dataset.no_class_folders",
            ),
        },
    )
    yield from family(
        "zip directories that lie",
        "dataset",
        {
            "encrypted": (_patch(8, b"\x01"), "archive.encrypted"),
            "compressed by bzip2": (_zip({_NAME: b"x"}, zipfile.ZIP_BZIP2), "archive.compression"),
            "compressed by lzma": (_zip({_NAME: b"x"}, zipfile.ZIP_LZMA), "archive.compression"),
            "compressed by an unknown method": (_patch(10, b"\x63\x00"), "archive.compression"),
            "a size of 4 GB": (_patch(24, b"\xfe\xff\xff\xff"), "archive.bomb|archive.damaged"),
            "a compressed size of 4 GB": (_patch(20, b"\xfe\xff\xff\xff"), DAMAGED),
            "zip64 without its field": (_patch(20, b"\xff" * 8), DAMAGED),
            "an offset beyond the file": (_patch(42, b"\xfe\xff\xff\x7f"), DAMAGED),
            "65,535 entries": (_patch(8, b"\xff\xff\xff\xff", b"PK\x05\x06"), ""),
            "a directory of 4 GB": (_patch(12, b"\xfe\xff\xff\xff", b"PK\x05\x06"), DAMAGED),
            "a checksum that does not fit": (_crc, DAMAGED),
            "a broken extra field": (with_zip_entry(extra=b"\x01\x00\xff\xff"), DAMAGED),
        },
    )
    yield from family(
        "gzip bombs",
        "dataset",
        {
            "a tar of zeros": (lambda forge: forge.tar_gz({_NAME: bytes(_ZEROS)}), BOMB),
            "zeros behind the end": (
                lambda forge: gzip.compress(forge.tar(forge.folder()) + bytes(2 * _ZEROS)),
                BOMB,
            ),
            "zeros alone": (
                lambda _: gzip.compress(bytes(_ZEROS)),
                "archive.bomb|dataset.empty|archive.damaged",
            ),
            "a gzip of a gzip": (
                lambda forge: gzip.compress(forge.tar_gz(forge.folder())),
                DAMAGED,
            ),
            "a name that never ends": (_gz_name, DAMAGED),
            "a checksum that does not fit": (_gzip_sum, DAMAGED),
            "no deflate": (lambda _: b"\x1f\x8b\x08\x00" + bytes(6) + b"\xff" * 99, DAMAGED),
        },
    )
    yield from family(
        "tar headers that lie",
        "dataset",
        {
            "2,000 long names in a row": (_long_names(2000), DAMAGED),
            "2,000 pax headers in a row": (
                lambda forge: raw_tar(*[header("p", b"x", b"%011o" % len(body := pax(a="b"))), body] * 2000),
                DAMAGED,
            ),
            "a size of 8 GB": (_sized(b"77777777777"), "archive.bomb|archive.damaged"),
            "a size of 2^88": (_sized(b"\x80" + b"\xff" * 11), "archive.bomb|archive.damaged"),
            "a size below zero": (_sized(b"\xff" * 12), "archive.bomb|archive.damaged"),
            "a size that is text": (_sized(b"garbage"), DAMAGED),
            "a size by pax of 10^12": (with_pax(size="1000000000000"), "archive.bomb|archive.damaged"),
            "a size by pax below zero": (with_pax(size="-1"), DAMAGED),
            "a size by pax that is text": (with_pax(size="many"), "archive.damaged|dataset.broken_images"),
            "a pax record of 10^9 bytes": (
                with_pax(body=b"1000000000 path=x\n"),
                "archive.damaged|archive.unsafe_path",
            ),
            "a pax record of no length": (with_pax(body=b"0 path=x\n"), DAMAGED),
            "a pax record that is no record": (
                with_pax(body=b"\xff" * 600),
                "archive.damaged|dataset.empty_split",
            ),
            "a pax number of 10,000 digits": (
                with_pax(mtime="9" * 10_000),
                "archive.damaged|dataset.empty_split",
            ),
            "a long name of 1 GB": (
                lambda forge: raw_tar(header("././@LongLink", b"L", b"10000000000"), b"a" * 600),
                DAMAGED,
            ),
            "a checksum that does not fit": (
                lambda _: raw_tar(header()[:148] + b"0000000\0" + header()[156:], b"x"),
                DAMAGED,
            ),
            "a volume of several": (lambda _: raw_tar(header(kind=b"M", size=b"00000000001"), b"x"), SPECIAL),
        },
    )
