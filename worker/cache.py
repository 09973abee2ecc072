"""A bounded local store of inputs, by their sha256: ten jobs on one dataset fetch it once."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from store.blobs import BlobStore


class InputCache:
    """Files named by their sha256, the least recently used removed first. Any number of workers may share a folder.

    A file that a workspace has linked stays readable there after it has left the cache.
    """

    def __init__(self, root: Path, max_bytes: int) -> None:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._root = root
        self._max_bytes = max_bytes

    def place(self, blobs: BlobStore, key: str, sha256: str, target: Path) -> None:
        """Put the file at `target`, read-only; from the blob store only if it is not here.

        Raises:
            BlobMissing, BlobCorrupt
        """
        cached = self._root / sha256
        try:
            os.utime(cached)
            _link(cached, target)
        except FileNotFoundError:
            # Fetched into the workspace, so that what a killed worker leaves half-fetched goes with its folder.
            blobs.fetch(key, target, sha256)
            target.chmod(0o444)
            new = target.with_name(f".{sha256}")
            _link(target, new)
            new.replace(cached)
            self._evict(keep=sha256)

    def _evict(self, keep: str) -> None:
        files = []
        for path in self._root.iterdir():
            with suppress(FileNotFoundError):  # a neighbour evicts too
                stat = path.stat()
                files.append((stat.st_mtime, stat.st_size, path))
        excess = sum(size for _, size, _ in files) - self._max_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                return
            if path.name != keep:
                path.unlink(missing_ok=True)
                excess -= size


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        target.chmod(0o444)
