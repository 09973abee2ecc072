"""Removes what nobody needs: old entries of the audit log, expired uploads, unused answers, and files without a row."""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from store import audit, part_uploads, shared_answers
from store.blobs import BlobStore
from store.database import Database
from store.references import MOST_AT_ONCE, referenced
from store.sweep import my_turn

GUARD = "blobs"


class Cleaned(NamedTuple):
    """How many files were removed: of expired uploads, orphans, and what teachers answered."""

    expired: int
    orphans: int
    answers: int = 0


def clean(
    db: Database,
    blobs: BlobStore,
    *,
    every_seconds: float,
    orphan_seconds: float,
    audit_seconds: float,
    answers_seconds: float,
    answers_bytes: int,
) -> Cleaned:
    """Remove what is due; nothing where another process did less than `every_seconds` ago.

    A file that no row speaks of is left alone until it is `orphan_seconds` old: younger ones may be on their way.
    Entries of the audit log go at `audit_seconds`; shared answers of teachers when they were not used for
    `answers_seconds`, or are more than `answers_bytes` together.

    Raises:
        BlobsUnusable
    """
    with db.write() as session:
        if not my_turn(session, GUARD, every_seconds):
            return Cleaned(0, 0)
    audit.prune(db, audit_seconds)
    expired = 0
    while keys := part_uploads.expire(db):
        expired += _delete(blobs, keys)
    answers = 0
    while keys := shared_answers.evict(db, unused_seconds=answers_seconds, most_bytes=answers_bytes):
        answers += _delete(blobs, keys)
    old = time.time() - orphan_seconds
    blobs.forget_unfinished(old)
    orphans = 0
    for some in _slices(blobs.list_older(old)):
        orphans += _delete(blobs, set(some) - referenced(db, some))
    return Cleaned(expired, orphans, answers)


def _delete(blobs: BlobStore, keys: Iterable[str]) -> int:
    number = 0
    for key in keys:
        blobs.delete(key)
        number += 1
    return number


def _slices(keys: Iterator[str]) -> Iterator[list[str]]:
    while some := list(islice(keys, MOST_AT_ONCE)):
        yield some
