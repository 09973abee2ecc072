"""Stored files over HTTP: ranges, conditions, digests (RFC 9110, RFC 9530)."""

import base64
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple
from urllib.parse import quote

from fastapi import Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from abcore.specs.refusals import Problem
from api.context import Context
from api.documentation import Responses, refusals
from api.etags import matches, means
from api.problems import Refused
from store.errors import BlobMissing
from store.models import Artifact

_RANGE = re.compile(r"bytes=([0-9]{0,100})-([0-9]{0,100})", re.IGNORECASE)
_ASCII = re.compile(r"[A-Za-z0-9._-]+")
_OWN_CONDITIONS = frozenset({"if-match", "if-none-match", "if-range"})

_OF_PAGES = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A page that a job left shows its own style and does nothing, should a browser show it in spite of its disposition."""

LINK_FROM_BYTES = 2**20
"""Smaller files come at once: a second request would take longer."""

RESPONSES: Responses = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    206: {"description": "The range that was asked for"},
    304: {"description": "The caller has it already"},
    307: {
        "description": "The file is at `Location` for some minutes, without a key; the request's Range counts there",
        "headers": {"Location": {"schema": {"type": "string", "format": "uri"}}},
    },
    **refusals(404, 410, 412, 416),
}
"""What a route that sends a file can answer."""


class Download(NamedTuple):
    """A file to send. `read` gives the bytes from the first to before the second of two places."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    read: Callable[[int, int], Iterator[bytes]]


def send_artifact(request: Request, context: Context, artifact: Artifact) -> Response:
    """Answer GET or HEAD for a file of a job: a large one by leading to the blob store, where that can be asked itself.

    Conditions on our entity tag are answered here: the blob store knows the file by another.

    Raises:
        Refused: as `send`.
        BlobMissing: the bytes are gone.
    """
    blobs, key, seconds = context.blobs, artifact.blob_key, context.settings.blob_link_seconds
    large = request.method == "GET" and artifact.size_bytes >= LINK_FROM_BYTES
    if seconds and large and _OWN_CONDITIONS.isdisjoint(request.headers.keys()):
        link = blobs.link(key, seconds)
        if link is not None:
            if not blobs.exists(key):
                raise BlobMissing(f"The content of {artifact.name} is not there any more.")
            return RedirectResponse(link, 307, {"Cache-Control": "no-store"})
    named = artifact.name, artifact.media_type, artifact.size_bytes, artifact.sha256
    return send(request, Download(*named, partial(blobs.open_range, key)))


def send(request: Request, file: Download) -> Response:
    """Answer GET or HEAD for a file: whole, one range of it, or 304 where the caller has it.

    The entity tag is the sha256, so it is strong, and the same wherever and whenever the file is served.

    Raises:
        Refused: 412, it is not the file that the caller means; 416, the range begins beyond the end.
    """
    etag = f'"{file.sha256}"'
    headers = {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(file.sha256)).decode()}:",
        "Content-Disposition": _disposition(file.name),
    }
    if file.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = _OF_PAGES
    if_match = request.headers.get("if-match")
    if if_match is not None and not means(if_match, etag):
        raise _another_file(if_match, etag)
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    size = file.size_bytes
    asked = _asked_range(request, etag, size)
    start, end = asked or (0, size)
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=200, headers=headers, media_type=file.media_type)
    if asked is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status = 206 if asked is not None else 200
    return StreamingResponse(file.read(start, end), status, headers, media_type=file.media_type)


def _disposition(name: str) -> str:
    plain = f'; filename="{name}"' if _ASCII.fullmatch(name) else ""
    return f"attachment{plain}; filename*=UTF-8''{quote(name)}"


def _asked_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """Return the range (start, end) that was asked for; None for the whole file.

    The whole file is also the answer to several ranges at once, to units that are not known, to a range of another
    version (If-Range), and to HEAD: RFC 9110 §14.2 lets, or has, a server pass over such a Range header.
    """
    header = request.headers.get("range")
    if_range = request.headers.get("if-range")
    if header is None or request.method != "GET" or (if_range is not None and if_range.strip() != etag):
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
        raise _beyond_the_end(header, size)
    return start, end


def _beyond_the_end(header: str, size: int) -> Refused:
    return Refused(
        Problem(
            code="request.range",
            message=f"the file has {size} bytes",
            where="header.Range",
            value=header,
            allowed=(f"bytes=0-{size - 1}",) if size else (),
        ),
        headers={"Content-Range": f"bytes */{size}"},
    )


def _another_file(if_match: str, etag: str) -> Refused:
    return Refused(
        Problem(
            code="request.if_match",
            message="the file has another entity tag",
            where="header.If-Match",
            value=if_match,
            allowed=(etag,),
            hint="Download it from its beginning, or leave the header out.",
        ),
        headers={"ETag": etag},
    )
