"""Content that need not travel: files of folders and buckets that the operator has named.

The API says whether a source lies in one of these places; a worker reads it, for a verification. Credentials of a
bucket are the server's own: a request has none.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from abcore.specs.refusals import Refusal
from store.blobs import CHUNK_BYTES, Blob
from store.blobs.buckets import Bucket
from store.errors import UnsupportedUrl

PATIENCE_SECONDS = 30.0
RANGE_BYTES = 8 * 2**20
WHERE = "source"


class Places:
    """The folders and buckets that may be imported from, from addresses separated by commas."""

    def __init__(self, addresses: str) -> None:
        """Raises UnsupportedUrl."""
        told = [address.strip() for address in addresses.split(",") if address.strip()]
        self._buckets = [Bucket.parse(address) for address in told if address.startswith("s3:")]
        self._folders = [_folder(address) for address in told if not address.startswith("s3:")]
        self._all: list[Path | Bucket] = [*self._folders, *self._buckets]

    @property
    def names(self) -> tuple[str, ...]:
        """The addresses as a user may know them, below which everything can be imported."""
        buckets = (f"s3://{one.name}/{one.prefix}{'/' if one.prefix else ''}" for one in self._buckets)
        return (*(f"{folder.as_uri()}/" for folder in self._folders), *buckets)

    def require(self, source: str) -> None:
        """Refuse a source that lies in none of these places; whether it is there, a worker will see.

        Raises:
            Refusal: `import.not_allowed`
        """
        self._find(source)

    def fetch(self, source: str, path: Path, most_bytes: int) -> Blob:
        """Copy a file to `path`, and say what came.

        Raises:
            Refusal: it is not allowed any more, not there, not readable, no file, outside, or too large.
            BlobsUnusable: the bucket is away.
        """
        place, names = self._find(source)
        fetched = _of_folder(place, names) if isinstance(place, Path) else _of_bucket(place, names)
        digest, size = hashlib.sha256(), 0
        with fetched as (told_bytes, chunks), path.open("xb") as out:
            _check_size(told_bytes, most_bytes)
            for chunk in chunks:
                size += len(chunk)
                _check_size(size, most_bytes)  # it may grow while it is read
                digest.update(chunk)
                out.write(chunk)
        return Blob(source, digest.hexdigest(), size)

    def _find(self, source: str) -> tuple[Path | Bucket, list[str]]:
        """The place that a source lies in, and the names that lead from there to it."""
        url = urlsplit(source)
        names = unquote(url.path).split("/")[1:]
        plain = all(name not in ("", ".", "..") and "\0" not in name for name in names)
        if plain and not url.query and not url.fragment:
            for place in self._all:
                above = _names_above(place, url.scheme, url.netloc)
                if above is not None and names[: len(above)] == above and len(names) > len(above):
                    return place, names[len(above) :]
        places = self.names
        raise Refusal(
            "import.not_allowed",
            f"{source!r} lies in no folder or bucket that this service imports from"
            + ("" if places else ": it has none"),
            where=WHERE,
            value=source,
            allowed=tuple(f"{place}..." for place in places),
        )


class _Opened(NamedTuple):
    size_bytes: int
    chunks: Iterator[bytes]


def _folder(address: str) -> Path:
    url = urlsplit(address)
    path = Path(unquote(url.path))
    if (
        url.scheme != "file"
        or url.netloc
        or url.query
        or url.fragment
        or not path.is_absolute()
        or path == Path("/")
    ):
        raise UnsupportedUrl(
            f"{address!r} is no place to import from: use file:///path/to/folder or "
            "s3://bucket/prefix?endpoint=https://host:port&region=name, several of them separated by commas."
        )
    return path


def _names_above(place: Path | Bucket, scheme: str, host: str) -> list[str] | None:
    """The names that a source's path begins with where it lies in this place; None where its address is another."""
    if isinstance(place, Path):
        return list(place.parts[1:]) if (scheme, host) == ("file", "") else None
    if (scheme, host) != ("s3", place.name):
        return None
    return place.prefix.split("/") if place.prefix else []


@contextmanager
def _of_folder(folder: Path, names: list[str]) -> Iterator[_Opened]:
    with _open(folder.joinpath(*names), folder) as file:
        yield _Opened(os.fstat(file.fileno()).st_size, iter(lambda: file.read(CHUNK_BYTES), b""))


def _open(path: Path, folder: Path) -> FileIO:
    try:
        root = folder.resolve(strict=True)
        real = path.resolve(strict=True)
        if not real.is_relative_to(root):
            raise _refused("import.outside", f"{path} is a link that leads out of {folder}")
        return _open_beneath(root, real)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _refused("import.missing", f"there is no file {path}") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise _refused("import.unreadable", f"{path} cannot be read: {error}") from error


def _open_beneath(root: Path, real: Path) -> FileIO:
    """Open a file folder by folder, through no link: what is swapped for one meanwhile is not followed."""
    *folders, name = real.relative_to(root).parts or (".",)
    with ExitStack() as opened:
        at = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        opened.callback(os.close, at)
        for folder in folders:
            at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
            opened.callback(os.close, at)
        # O_NONBLOCK: a pipe that nobody writes to would be waited for.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _refused("import.not_a_file", f"{real} is no file")
    return FileIO(file)


@contextmanager
def _of_bucket(bucket: Bucket, names: list[str]) -> Iterator[_Opened]:
    key = "/".join(names)
    store = bucket.open(PATIENCE_SECONDS)
    with bucket.told(key):
        try:
            found = obstore.head(store, key)
        except FileNotFoundError as error:
            raise _refused("import.missing", f"there is no {key!r} in the bucket {bucket.name}") from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            message = f"the service's credentials may not read {key!r} in the bucket {bucket.name}"
            raise _refused("import.unreadable", message) from error

    def chunks() -> Iterator[bytes]:
        for start in range(0, found["size"], RANGE_BYTES):
            end = min(found["size"], start + RANGE_BYTES)
            with bucket.told(key):
                # Of that version alone: one that is written meanwhile must not be mixed with it.
                options: obstore.GetOptions = {"range": (start, end), "if_match": found["e_tag"]}
                part = obstore.get(store, key, options=options).bytes().to_bytes()
            yield part

    yield _Opened(found["size"], chunks())


def _check_size(size: int, most_bytes: int) -> None:
    if size > most_bytes:
        raise _refused(
            "import.too_large",
            "the file is larger than an upload may be",
            value=size,
            allowed=(f"<= {most_bytes}",),
        )


def _refused(code: str, message: str, **details: object) -> Refusal:
    return Refusal(code, message, where=WHERE, **details)
