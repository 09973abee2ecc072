"""Files by key: in a folder (`local`), or in a bucket of S3 or what speaks its language (`s3`)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from store.blobs.interface import CHUNK_BYTES, Blob, BlobStore, BlobWriter
from store.blobs.local import LocalBlobs, LocalWriter, keep_checked
from store.blobs.s3 import S3Blobs
from store.errors import UnsupportedUrl

__all__ = [
    "CHUNK_BYTES",
    "Blob",
    "BlobStore",
    "BlobWriter",
    "LocalBlobs",
    "LocalWriter",
    "S3Blobs",
    "fetch_joined",
    "keep_checked",
    "open_blobs",
    "read_joined",
]


def open_blobs(url: str) -> BlobStore:
    """Return the blob store at this address; nothing is connected to before it is used.

    Raises:
        UnsupportedUrl: neither `file:///path` nor `s3://bucket/prefix?endpoint=...&region=...`.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Blobs(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost") or not parts.path:
        raise UnsupportedUrl(
            f"The blobs_url {url!r} is not supported: use file:///path/to/folder or s3://bucket/prefix."
        )
    return LocalBlobs(Path(unquote(parts.path)))


def read_joined(blobs: BlobStore, keys: Sequence[str]) -> Iterator[bytes]:
    """Yield the bytes of files, one after the other, in chunks.

    Raises:
        BlobMissing
    """
    for key in keys:
        yield from blobs.open_range(key)


def fetch_joined(blobs: BlobStore, keys: Sequence[str], path: Path, sha256: str) -> None:
    """Copy files to `path`, one after the other, if all together have this sha256.

    Raises:
        BlobMissing, BlobCorrupt
    """
    keep_checked(read_joined(blobs, keys), keys[0], path, sha256)
