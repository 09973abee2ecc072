"""Stored files over HTTP: ranges, entity tags, digests (RFC 9110, RFC 9530)."""

import base64
import re
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from abcore.specs.refusals import Problem
from api.problems import Refused
from store.blobs import BlobStore
from store.models import Artifact

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def send_artifact(request: Request, blobs: BlobStore, artifact: Artifact) -> Response:
    """Answer GET or HEAD for a file: whole, one range of it, or 304 where the caller has it.

    Raises:
        Refused: 416, the range begins beyond the end.
        BlobMissing: the bytes are gone.
    """
    etag = f'"{artifact.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(artifact.sha256)).decode()}:",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(artifact.name)}",
    }
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    size = artifact.size_bytes
    asked = _asked_range(request, etag, size)
    start, end = asked or (0, size)
    headers["Content-Length"] = str(end - start)
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if asked is not None else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=artifact.media_type)
    return StreamingResponse(
        blobs.open_range(artifact.blob_key, start, end), status, headers, media_type=artifact.media_type
    )


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names this entity tag, by weak comparison."""
    if header is None:
        return False
    return header.strip() == "*" or etag in (tag.strip().removeprefix("W/") for tag in header.split(","))


def _asked_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """Return the range (start, end) that was asked for; None for the whole file, and for forms that are not known."""
    header = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if header is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if first == "":
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if last and first and int(last) < int(first):
        return None
    if start >= size:
        raise Refused(
            416,
            "range",
            "The range begins beyond the end",
            Problem(
                code="request.range",
                message=f"the file has {size} bytes",
                where="header.Range",
                value=header,
                allowed=(f"bytes=0-{size - 1}",) if size else (),
            ),
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end
