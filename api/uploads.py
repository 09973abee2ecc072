"""Content of any size into the blob store: streamed, hashed on the way, there as a whole or not at all."""

import asyncio
import base64
import binascii
import errno
from collections.abc import AsyncIterator
from typing import Protocol

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from abcore.specs.refusals import Problem
from api.context import Context
from api.problems import Refused
from api.schemas.part_uploads import ContentChoice
from store.blobs import Blob, BlobStore, BlobWriter
from store.database import Database
from store.errors import AlreadyUploaded
from store.ids import new_id
from store.models import Dataset, Teacher
from store.quotas import look_for_room

BLOCK_BYTES = 4 * 2**20
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class UploadRoom(Protocol):
    """`store.teachers` or `store.datasets`."""

    def get(self, db: Database, project_id: str, id_: str) -> Teacher | Dataset:
        """Return one."""
        ...

    def attach_upload(
        self, db: Database, project_id: str, id_: str, blob_key: str, sha256: str, size_bytes: int
    ) -> Teacher | Dataset:
        """Say that its content is in the blob store."""
        ...

    def attach_parts(
        self, db: Database, project_id: str, id_: str, upload_id: str, keep_seconds: float
    ) -> Teacher | Dataset:
        """Say that its content is a complete upload in parts."""
        ...

    def attach_source(self, db: Database, project_id: str, id_: str, source: str) -> Teacher | Dataset:
        """Say where its content is imported from."""
        ...


async def receive_content(
    request: Request, context: Context, project_id: str, room: UploadRoom, id_: str
) -> Teacher | Dataset:
    """Store the content of a teacher or a dataset, queue its verification, ring.

    Raises:
        NotFound
        AlreadyUploaded: other content came before; where the digest header tells, before the body is read.
        StorageFull: the project may not store so much; where the length is told, before the body is read.
        Refused: as `receive_blob`.
    """
    row = await run_in_threadpool(room.get, context.db, project_id, id_)
    announced = announced_sha256(request)
    if row.upload_sha256 is not None and announced is not None:
        if announced == row.upload_sha256:
            return row
        raise AlreadyUploaded(
            f"{id_} has other content already (sha256 {row.upload_sha256}): create a new one."
        )
    if row.upload_sha256 is None:
        announced_bytes = int(request.headers.get("content-length", 1))
        await run_in_threadpool(look_for_room, context.db, project_id, announced_bytes)
    key = f"uploads/{id_}/{new_id('up')}"
    blob = await receive_blob(request, context.blobs, key, context.settings.max_upload_bytes)
    try:
        attached = await run_in_threadpool(
            room.attach_upload, context.db, project_id, id_, blob.key, blob.sha256, blob.size
        )
    except Exception:
        await run_in_threadpool(context.blobs.delete, key)
        raise
    if attached.blob_key != key:
        await run_in_threadpool(context.blobs.delete, key)
    else:
        await run_in_threadpool(context.doorbell.ring)
    return attached


def attach_choice(
    context: Context, project_id: str, room: UploadRoom, id_: str, choice: ContentChoice
) -> Teacher | Dataset:
    """Make a teacher or a dataset of what is here already, or may be fetched; queue its verification, ring.

    Raises:
        NotFound, UnknownUpload, UploadOpen, AlreadyUploaded, StorageFull
        Refusal: nothing is imported from there.
    """
    if choice.upload is not None:
        keep_seconds = context.settings.upload_keep_seconds
        row = room.attach_parts(context.db, project_id, id_, choice.upload, keep_seconds)
    else:
        assert choice.source is not None, "the body has one of them"
        room.get(context.db, project_id, id_)  # another project's is not there, whatever the source
        context.places.require(choice.source)
        row = room.attach_source(context.db, project_id, id_, choice.source)
    context.doorbell.ring()
    return row


async def receive_blob(request: Request, blobs: BlobStore, key: str, most_bytes: int) -> Blob:
    """Store the request's body at `key`.

    Raises:
        Refused: 411 its length is not told; 413 larger than `most_bytes`; 422 empty, or not what the digest header
            says; 400 cut off; 507 no room. Then nothing is at the key.
    """
    expected = announced_sha256(request)
    length = _announced_length(request, most_bytes)
    writing = blobs.writer(key)
    try:
        writer = await run_in_threadpool(writing.__enter__)
        try:
            size = await _write_all(request.stream(), writer, most_bytes)
            if length is not None and size != length:
                raise _cut_off(size, length)
            if size == 0:
                raise Refused(
                    Problem(code="upload.empty", message="the body is empty", where="body", value=0)
                )
            blob = await run_in_threadpool(writer.commit)
        finally:
            await run_in_threadpool(writing.__exit__, None, None, None)
    except ClientDisconnect as error:
        raise _cut_off(None, length) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise _no_room() from error
    if expected is not None and blob.sha256 != expected:
        await run_in_threadpool(blobs.delete, key)
        raise Refused(
            Problem(
                code="upload.digest",
                message=f"the body has sha256 {blob.sha256}, the header says {expected}",
                where=_digest_header(request),
                value=expected,
                allowed=(blob.sha256,),
                hint="The file changed on its way or while it was sent; send it again.",
            )
        )
    return blob


async def _write_all(stream: AsyncIterator[bytes], writer: BlobWriter, most_bytes: int) -> int:
    """Write block by block in a thread, receiving the next one meanwhile."""
    size = 0
    buffer = bytearray()
    writing: asyncio.Future[None] | None = None
    try:
        async for chunk in stream:
            size += len(chunk)
            if size > most_bytes:
                raise too_large(size, most_bytes)
            buffer += chunk
            if len(buffer) >= BLOCK_BYTES:
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(run_in_threadpool(writer.write, memoryview(buffer)))
                buffer = bytearray()
    finally:
        # The writer must not be closed under a thread that still writes.
        if writing is not None:
            await writing
    await run_in_threadpool(writer.write, memoryview(buffer))
    return size


def announced_sha256(request: Request) -> str | None:
    """Return the hex sha256 that the request announces by `Content-Digest` (RFC 9530) or `X-Content-SHA256`.

    Raises:
        Refused: 422, neither form.
    """
    plain = request.headers.get("x-content-sha256")
    structured = request.headers.get("content-digest")
    try:
        if plain is not None:
            digest = bytes.fromhex(plain)
        elif structured is not None:
            value = structured.strip()
            if not (value.startswith("sha-256=:") and value.endswith(":")):
                raise ValueError("not sha-256")
            digest = base64.b64decode(value[len("sha-256=:") : -1], validate=True)
        else:
            return None
        if len(digest) != 32:
            raise ValueError("not 32 bytes")
    except (ValueError, binascii.Error) as error:
        raise Refused(
            Problem(
                code="upload.digest",
                message="the digest header is no sha256",
                where=_digest_header(request),
                value=plain if plain is not None else structured,
                allowed=("Content-Digest: sha-256=:BASE64:", "X-Content-SHA256: HEX"),
            )
        ) from error
    return digest.hex()


def _digest_header(request: Request) -> str:
    return "header.X-Content-SHA256" if "x-content-sha256" in request.headers else "header.Content-Digest"


def _announced_length(request: Request, most_bytes: int) -> int | None:
    """Return the Content-Length; None for a chunked body, which has none."""
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" not in request.headers:
        raise Refused(
            Problem(
                code="upload.length",
                message="there is no body, or its length is not told",
                where="header.Content-Length",
                allowed=("Content-Length: BYTES", "Transfer-Encoding: chunked"),
            ),
        )
    if length is None:
        return None
    if int(length) > most_bytes:  # the server has checked that it is a number
        raise too_large(int(length), most_bytes)
    return int(length)


def _cut_off(size: int | None, length: int | None) -> Refused:
    return Refused(
        Problem(
            code="upload.cut",
            message="the body ended before its end",
            where="body",
            value=size,
            allowed=(f"{length} bytes",) if length is not None else (),
            hint="Nothing was kept; send it again.",
        ),
    )


def _no_room() -> Refused:
    return Refused(
        Problem(
            code="upload.no_room",
            message="the disk of the service is full",
            where="body",
            hint="Nothing was kept. Let the operator make room, or delete teachers and datasets; then send it again.",
        ),
    )


def too_large(size: int, most_bytes: int, where: str = "body") -> Refused:
    """The refusal of a file that is larger than this service takes."""
    return Refused(
        Problem(
            code="upload.too_large",
            message=f"the upload has {size:,} bytes or more; {most_bytes:,} are accepted",
            where=where,
            value=size,
            allowed=(f"<= {most_bytes} bytes",),
            hint="Send a smaller file, or let the operator raise ABDISTILL_MAX_UPLOAD_BYTES.",
        ),
    )
