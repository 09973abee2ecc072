"""Content that comes in parts: what a part must be, and what the whole must be."""

import hashlib

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from abcore.specs.refusals import Problem
from api.context import Context
from api.problems import Refused
from api.schemas.part_uploads import MOST_PARTS, UploadCreate
from api.uploads import announced_sha256, receive_blob, too_large
from store import part_uploads
from store.blobs import BlobStore, read_joined
from store.errors import PartMissing, UploadComplete
from store.ids import new_id
from store.settings import Settings
from store.upload_models import PartUpload, UploadPart

_NAMED = 20


def part_bytes_of(body: UploadCreate, settings: Settings) -> int:
    """Return how large the parts of a file shall be.

    Raises:
        Refused: the file is larger than is accepted, or would have too many parts.
    """
    size = body.size_bytes
    if size > settings.max_upload_bytes:
        raise too_large(size, settings.max_upload_bytes, where="size_bytes")
    if body.part_bytes is None:
        return max(settings.upload_part_bytes, -(-size // MOST_PARTS))
    if body.part_bytes * MOST_PARTS < size:
        raise Refused(
            Problem(
                code="upload.part_bytes",
                message=f"the file would have {-(-size // body.part_bytes):,} parts; {MOST_PARTS:,} are accepted",
                where="part_bytes",
                value=body.part_bytes,
                allowed=(f">= {-(-size // MOST_PARTS)}", "null"),
            )
        )
    return body.part_bytes


async def receive_part(
    request: Request, context: Context, project_id: str, upload_id: str, number: int
) -> UploadPart:
    """Store a part. One that has arrived with the announced sha256 is not read again.

    Raises:
        NotFound, UploadComplete
        Refused: no such number, another size, or as `receive_blob`.
    """
    db, blobs = context.db, context.blobs
    upload = await run_in_threadpool(part_uploads.get, db, project_id, upload_id)
    expected = _size_of(upload, number)
    announced = announced_sha256(request)
    if announced is not None:
        known = await run_in_threadpool(part_uploads.find_part, db, upload_id, number, announced)
        if known is not None:
            return known
    if upload.state != "open":
        raise UploadComplete
    _check_length(request, expected)
    key = f"uploads/{upload_id}/{number}/{new_id('prt')}"
    blob = await receive_blob(request, blobs, key, expected)
    superseded: str | None = key
    try:
        if blob.size != expected:
            raise _other_size(blob.size, expected)
        keep = context.settings.upload_keep_seconds
        part, superseded = await run_in_threadpool(
            part_uploads.add_part, db, project_id, upload_id, number, blob, keep
        )
    finally:
        if superseded is not None:
            await run_in_threadpool(blobs.delete, superseded)
    return part


def complete(context: Context, project_id: str, upload_id: str, sha256: str) -> PartUpload:
    """Read all parts once, and hold their sha256 against the one that is given.

    Raises:
        NotFound, PartMissing
        Refused: the sha256 is another.
    """
    upload = part_uploads.get(context.db, project_id, upload_id)
    if upload.state == "complete":
        if upload.sha256 != sha256:
            raise _other_content(sha256, str(upload.sha256))
        return upload
    there = part_uploads.parts(context.db, upload_id)
    if len(there) != upload.num_parts:
        raise _missing(upload, {part.number for part in there})
    keys = [part.blob_key for part in there]
    found = _sha256_of(context.blobs, keys)
    for said in {sha256, upload.sha256 or sha256}:
        if said != found:
            raise _other_content(said, found)
    keep = context.settings.upload_keep_seconds
    return part_uploads.complete(context.db, project_id, upload_id, found, keys, keep)


def _sha256_of(blobs: BlobStore, keys: list[str]) -> str:
    digest = hashlib.sha256()
    for chunk in read_joined(blobs, keys):
        digest.update(chunk)
    return digest.hexdigest()


def _size_of(upload: PartUpload, number: int) -> int:
    if not 1 <= number <= upload.num_parts:
        raise Refused(
            Problem(
                code="upload.part_number",
                message=f"the upload has {upload.num_parts} parts",
                where="path.number",
                value=number,
                allowed=(f"1 to {upload.num_parts}",),
            )
        )
    return upload.bytes_of(number)


def _check_length(request: Request, expected: int) -> None:
    """Refuse a part of another size before it is read."""
    length = request.headers.get("content-length")
    if length is not None and int(length) != expected:  # the server has checked that it is a number
        raise _other_size(int(length), expected)


def _other_size(size: int, expected: int) -> Refused:
    return Refused(
        Problem(
            code="upload.part_size",
            message=f"the part has {size:,} bytes; this one has {expected:,}",
            where="body",
            value=size,
            allowed=(f"{expected} bytes",),
        )
    )


def _other_content(said: str, found: str) -> Refused:
    return Refused(
        Problem(
            code="upload.whole_digest",
            message=f"all parts together have sha256 {found}, not {said}",
            where="sha256",
            value=said,
            allowed=(found,),
        )
    )


def _missing(upload: PartUpload, there: set[int]) -> PartMissing:
    missing = [number for number in range(1, upload.num_parts + 1) if number not in there]
    named = ", ".join(map(str, missing[:_NAMED])) + (", ..." if len(missing) > _NAMED else "")
    return PartMissing(f"{len(missing)} of {upload.num_parts} parts are missing: {named}.")
