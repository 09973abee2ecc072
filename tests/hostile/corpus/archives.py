"""Archives that reach out of themselves, hold what is no file, or are cut off."""

import gzip
import io
import stat
import tarfile
from collections.abc import Iterator

from hostile.case import Case, Make, Row, family
from hostile.corpus.packing import (
    PACKINGS,
    header,
    packed,
    raw_tar,
    with_pax,
    with_tar_member,
    with_zip_entry,
)
from plugins.forge import Forge

DAMAGED, SPECIAL, UNSAFE = "archive.damaged", "archive.special_file", "archive.unsafe_path"
UNREADABLE = "archive.unreadable_name"
_OUTSIDE = {
    "absolute": "/etc/x.png",
    "parent": "../x.png",
    "parent further in": "train/../../x.png",
    "parent of Windows": "..\\x.png",
    "drive of Windows": "C:/x.png",
    "share of Windows": "\\\\server\\x.png",
    "home written out": "/root/.ssh/authorized_keys",
}
_NAMES = {
    "an escape sequence": "train/\x1b[2Jcat/0.png",
    "a line break": "train/cat\ndog/0.png",
    "a C1 control": "train/\x9b2Jcat/0.png",
    "text that runs backwards": "train/cat\u202egnp/0.png",
    "an isolate that is never closed": "train/\u2066cat/0.png",
    "a line separator": "train/cat\u2028dog/0.png",
    "2,000 letters": f"train/{'c' * 2000}/0.png",
    "2,000 folders": "train/" + "c/" * 2000 + "0.png",
}
_LINKS = {
    "symbolic link": tarfile.SYMTYPE,
    "hard link": tarfile.LNKTYPE,
    "character device": tarfile.CHRTYPE,
    "block device": tarfile.BLKTYPE,
    "pipe": tarfile.FIFOTYPE,
}


def _nul_in_a_zip(forge: Forge) -> bytes:
    """zipfile cuts a name at NUL: the directory and the entry then disagree, or two files have one name."""
    upload = forge.zip({**forge.folder(), "train/cat/0.png?/../x": forge.png(9)})
    return upload.replace(b"0.png?/../x", b"0.png\0/../x")


def _not_utf8(forge: Forge) -> bytes:
    return forge.zip({**forge.folder(), "train/é/0.png": forge.png()}).replace("é".encode(), b"\xff\xfe")


def _twice(packing: str) -> Make:
    def make(forge: Forge) -> bytes:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            for path, body in [*forge.folder().items(), ("train/cat/0.png", forge.png())]:
                info = tarfile.TarInfo(path)
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
        return content.getvalue() if packing == "tar" else gzip.compress(content.getvalue())

    return make


def _cut(packing: str, share: float) -> Make:
    def make(forge: Forge) -> bytes:
        upload: bytes = getattr(forge, packing)(forge.folder()).rstrip(b"\0")  # a tar's padding may be cut
        return upload[: int(len(upload) * share)]

    return make


def _between_two(gzipped: bool) -> Make:
    def make(forge: Forge) -> bytes:
        cut = forge.tar(dict(sorted(forge.folder(train=9, test=2).items(), reverse=True)))[: 20 * 1024]
        return gzip.compress(cut) if gzipped else cut

    return make


def cases() -> Iterator[Case]:
    """All of them."""
    paths: dict[str, Row] = {
        f"{what}, {packing}": (packed(packing, name), UNSAFE, f"archive:{name}")
        for what, name in _OUTSIDE.items()
        for packing in ("zip", "tar_gz")
    }
    paths["by a pax header"] = (with_pax(path="../x.png"), UNSAFE)
    paths["by a global pax header"] = (with_pax(b"g", path="/etc/x.png"), UNSAFE)
    paths["by a long name of GNU tar"] = (
        lambda forge: raw_tar(
            header("././@LongLink", b"L", b"00000000400"), b"../" * 80, header(), forge.png()
        ),
        "archive.unsafe_path|archive.damaged",
    )
    yield from family("paths out of the archive", "dataset", paths)
    links: dict[str, Row] = {
        f"{what} of a tar{', hidden' if hidden else ''}": (
            with_tar_member(
                kind, name := ".hidden" if hidden else "train/cat/link.png", linkname="/etc/passwd"
            ),
            SPECIAL,
            f"archive:{name}",
        )
        for what, kind in _LINKS.items()
        for hidden in (False, True)
    }
    links |= {
        f"{what} of a zip": (
            with_zip_entry(b"/etc/passwd", external_attr=(kind | 0o777) << 16),
            SPECIAL,
            "archive:train/cat/9.png",
        )
        for what, kind in {
            "symbolic link": stat.S_IFLNK,
            "pipe": stat.S_IFIFO,
            "device": stat.S_IFCHR,
            "socket": stat.S_IFSOCK,
        }.items()
    }
    links["sparse file of GNU tar"] = (
        with_tar_member(tarfile.GNUTYPE_SPARSE),
        "archive.special_file|archive.damaged",
    )
    links["sparse file of pax"] = (
        with_pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize="1000000000000"),
        "archive.special_file|archive.damaged",
    )
    links["member of an unknown kind"] = (with_tar_member(b"Z"), "archive.special_file|dataset.broken_images")
    yield from family("links, devices and holes", "dataset", links)
    names: dict[str, Row] = {
        f"{what}, {packing}": (packed(packing, name), UNREADABLE)
        for what, name in _NAMES.items()
        for packing in ("zip", "tar")
    }
    names["bytes that are not UTF-8, tar"] = (packed("tar", "train/\udcff/0.png"), UNREADABLE)
    names["bytes that are not UTF-8, zip"] = (_not_utf8, DAMAGED)
    names["NUL, zip"] = (_nul_in_a_zip, "archive.damaged|archive.duplicate|archive.unsafe_path")
    names["NUL by a pax header"] = (
        with_pax(path="train/cat/a\0b.png"),
        "archive.unsafe_path|archive.unreadable_name",
    )
    yield from family("names that upset who reads them", "dataset", names)
    yield from family(
        "files of one name",
        "dataset",
        {
            "zip": (with_zip_entry(name="train/cat/0.png"), "archive.duplicate"),
            "tar": (_twice("tar"), "archive.duplicate"),
            "tar_gz": (_twice("tar_gz"), "archive.duplicate"),
            "by another way of writing it": (packed("zip", "./train/cat/0.png"), "archive.duplicate"),
            "by two slashes": (packed("tar", "train//cat/0.png"), "archive.duplicate"),
        },
    )
    cuts: dict[str, Row] = {
        f"{packing} after {share:.1%}": (_cut(packing, share), "archive.damaged|dataset.unknown_format")
        for packing in PACKINGS
        for share in (0.001, 0.2, 0.5, 0.9, 0.99)
    }
    cuts["tar between two members"] = (_between_two(False), DAMAGED)
    cuts["tar_gz between two members"] = (_between_two(True), DAMAGED)
    cuts["tar_gz before its checksum"] = (lambda forge: forge.tar_gz(forge.folder())[:-8], DAMAGED)
    yield from family("archives cut off", "dataset", cuts)
