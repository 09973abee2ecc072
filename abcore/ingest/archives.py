"""Archives, a member at a time: nothing is unpacked to disk, and no member is read before it was found harmless."""

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from abcore.specs.refusals import Refusal

MOST_MEMBERS = 5_000_000
MOST_MEMBER_BYTES = 4 * 2**30
MOST_RATIO = 200
"""Decompressed bytes for each compressed one: photographs have about 1, drawings of large plain areas up to 100."""

_SMALL_BYTES = 2**20
_BLOCK_BYTES = 512
_CHUNK_BYTES = 2**20
_MOST_NAME = 1000
_JUNK = re.compile(r"(^|/)(__MACOSX/|\.)|(^|/)(Thumbs\.db|desktop\.ini|Icon\r)$")
# Control characters, what turns the direction of the text after it, line and paragraph separators, half characters.
_UNREADABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Member:
    """One regular file of an archive; `read` gives its bytes, once, while the archive stands at it."""

    name: str
    size_bytes: int
    read: Callable[[], bytes]


def zip_members(path: Path) -> Iterator[Member]:
    """Go through a zip archive's files in their order.

    Raises:
        Refusal: `archive.*`: damaged, encrypted, a link, a path out of the archive, or more than it claims to be.
    """
    with _damage_refused(), zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _check_count(len(infos))
        if sum(info.compress_size for info in infos) > path.stat().st_size:
            raise _damaged("its entries overlap: they claim more compressed bytes than the file has")
        seen: set[str] = set()
        for info in infos:
            name = _checked_name(info.filename)
            mode = info.external_attr >> 16
            if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
                raise _special(name)
            if info.is_dir() or _JUNK.search(name):
                continue
            check_readable(name, "archive")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise Refusal(
                    "archive.compression",
                    f"{name} is compressed by a method that is not supported (number {info.compress_type})",
                    where=f"archive:{name}",
                    allowed=("stored", "deflated"),
                    hint="Pack the folder again with plain zip, or as .tar.gz.",
                )
            if info.flag_bits & 1:
                raise Refusal(
                    "archive.encrypted",
                    f"{name} is encrypted",
                    where=f"archive:{name}",
                    hint="Send an archive without a password.",
                )
            _check_once(name, seen)
            _check_size(name, info.file_size, info.compress_size)
            yield Member(name, info.file_size, partial(_read_zip, archive, info))


def tar_members(path: Path, *, gzipped: bool) -> Iterator[Member]:
    """Go through a tar archive's files as they stream by, compressed by gzip or not.

    Raises:
        Refusal: as `zip_members`.
    """
    size = path.stat().st_size
    most_bytes = max(size * MOST_RATIO, _SMALL_BYTES) if gzipped else size
    with _damage_refused(), path.open("rb") as raw:
        stream = _Counted(gzip.GzipFile(fileobj=raw) if gzipped else raw, most_bytes, size)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as archive:
            yield from _checked_tar(archive, most_bytes, size)
        while stream.read(_CHUNK_BYTES):
            pass
        # tarfile takes an archive that stops between two members for a whole one.
        if stream.tail != bytes(_BLOCK_BYTES):
            raise _damaged("it has no end: it was cut off")


def _checked_tar(archive: tarfile.TarFile, most_bytes: int, size: int) -> Iterator[Member]:
    seen: set[str] = set()
    total = 0
    for count, info in enumerate(archive, start=1):
        _check_count(count)
        name = _checked_name(info.name)
        if info.size < 0:
            raise _damaged(f"{name} claims {info.size} bytes")
        total += info.size
        if total > most_bytes:
            raise _bomb(name, total, size)
        if info.isdir() or (_JUNK.search(name) and info.isreg()):
            continue
        check_readable(name, "archive")
        if not info.isreg() or info.issparse():
            raise _special(name)
        _check_once(name, seen)
        _check_size(name, info.size, info.size)
        yield Member(name, info.size, partial(_read_tar, archive, info))


class _Counted(io.BufferedIOBase):
    """A stream that refuses to unfold without end, and that knows its last block."""

    def __init__(self, file: io.BufferedIOBase, most_bytes: int, compressed_bytes: int) -> None:
        super().__init__()
        self._file = file
        self._most_bytes = most_bytes
        self._compressed_bytes = compressed_bytes
        self._total = 0
        self.tail = b""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return the next bytes, at most `size`; none at the end."""
        chunk = self._file.read(size)
        self._total += len(chunk)
        if self._total > self._most_bytes:
            raise _bomb("the archive", self._total, self._compressed_bytes)
        self.tail = (self.tail + chunk[-_BLOCK_BYTES:])[-_BLOCK_BYTES:]
        return chunk


def check_readable(name: str, where: str) -> None:
    """Refuse a name that cannot be printed or sent on: control characters, broken encodings, absurd lengths."""
    if len(name) > _MOST_NAME or _UNREADABLE.search(name):
        shown = name[:100].encode("ascii", "backslashreplace").decode()
        raise Refusal(
            "archive.unreadable_name",
            f"the name {shown!r} has control characters, is not UTF-8, or is longer than {_MOST_NAME} characters",
            where=where,
            value=shown,
            hint="Rename the file, or pack the archive with names in UTF-8.",
        )


@contextmanager
def _damage_refused() -> Iterator[None]:
    """Around everything that reads the archive; a generator does not see what its consumer's reads raise."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        zlib.error,
        EOFError,
        OSError,
        ValueError,  # names that are not in the encoding that they claim, numbers that are none
        NotImplementedError,
        RecursionError,  # tarfile calls itself for each header that speaks of the next one
    ) as error:
        raise _damaged(str(error) or "it ends too early") from error


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with _damage_refused():
        return archive.read(info)


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    with _damage_refused():
        file = archive.extractfile(info)
        assert file is not None, "only regular files are read"
        return file.read()


def _checked_name(name: str) -> str:
    """Refuse a name that would leave the folder it is unpacked into: whoever sends one means it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", name) or "\0" in name:
        raise Refusal(
            "archive.unsafe_path",
            f"the archive names a file outside of itself: {name[:200]!r}",
            where=f"archive:{name[:200]}",
            value=name[:200],
            hint="Pack the folder with relative paths: tar -C FOLDER -cf data.tar .",
        )
    return str(path)


def _check_once(name: str, seen: set[str]) -> None:
    if name in seen:
        raise Refusal(
            "archive.duplicate",
            f"the archive holds two files called {name!r}",
            where=f"archive:{name}",
            hint="Pack the folder again into a new archive.",
        )
    seen.add(name)


def _check_size(name: str, size: int, compressed: int) -> None:
    # Arrays are bounded by the dataset's own limit: sorted labels compress a thousandfold and are harmless.
    most_bytes = MOST_MEMBER_BYTES if name.endswith(".npy") else max(compressed * MOST_RATIO, _SMALL_BYTES)
    if size > min(most_bytes, MOST_MEMBER_BYTES):
        raise _bomb(name, size, compressed)


def _check_count(count: int) -> None:
    if count > MOST_MEMBERS:
        raise Refusal(
            "archive.too_many_members",
            f"the archive holds more than {MOST_MEMBERS:,} files",
            where="archive",
            value=count,
            hint="Split the dataset.",
        )


def _bomb(name: str, size: int, compressed: int) -> Refusal:
    return Refusal(
        "archive.bomb",
        f"{name} unfolds {compressed:,} bytes into {size:,}; more than {MOST_RATIO}-fold is not accepted",
        where=f"archive:{name}",
        value=size,
        hint="Send images in an image format (PNG, JPEG), stored or lightly compressed.",
    )


def _special(name: str) -> Refusal:
    return Refusal(
        "archive.special_file",
        f"{name} is a link or a device; only regular files and folders are accepted",
        where=f"archive:{name}",
        hint="Pack the files that the links point to: tar --dereference, zip without -y.",
    )


def _damaged(why: str) -> Refusal:
    return Refusal(
        "archive.damaged",
        f"the archive cannot be read: {why}",
        where="archive",
        hint="The file was cut off or altered on its way: send it again with its sha256.",
    )
