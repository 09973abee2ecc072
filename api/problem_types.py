"""The types of problem documents: RFC 9457's `type`, with the status and title that always go with it."""

from typing import NamedTuple

from abcore.specs.codes import CODES

PATH = "/v1/problems"


class ProblemType(NamedTuple):
    """A kind of answer that is no success. What it says of the case at hand is in `errors`, by code."""

    status: int
    title: str
    means: str


TYPES: dict[str, ProblemType] = {
    "invalid": ProblemType(
        422,
        "The request is not valid",
        "It can be read, and cannot work: `errors` has every thing that is wrong, by field, with its value, what would "
        "be allowed, and what to do. Sending it again unchanged cannot help.",
    ),
    "bad-request": ProblemType(400, "The body cannot be read", "It is no JSON at all, or no UTF-8."),
    "upload-cut": ProblemType(
        400, "The upload was cut off", "The connection ended before the body did. Nothing was kept."
    ),
    "unauthenticated": ProblemType(
        401,
        "The API key is missing or not valid",
        "Every request but those of `health` and `problems` needs one.",
    ),
    "forbidden": ProblemType(
        403,
        "The key's scopes do not allow this",
        "`read` reads, `submit` creates and changes, `admin` does all.",
    ),
    "not-found": ProblemType(
        404,
        "There is nothing at this address",
        "No such object in the key's project, or no such path. What other projects have is not told from what is not "
        "there.",
    ),
    "method-not-allowed": ProblemType(
        405, "The path has no such method", "`Allow` lists the methods that it has."
    ),
    "timeout": ProblemType(
        408, "The body did not come in time", "`allowed` is how long it may take. Nothing was kept."
    ),
    "conflict": ProblemType(409, "The object's state does not allow this", "Look at its state, then decide."),
    "not-ready": ProblemType(
        409,
        "The teacher or dataset is not ready",
        "It is still being verified, or was found invalid. Wait until it says `ready`.",
    ),
    "already-uploaded": ProblemType(
        409, "Other content was uploaded before", "An object's content never changes: make another object."
    ),
    "in-use": ProblemType(
        409, "A job that has not ended uses it", "What a running job needs cannot be deleted."
    ),
    "too-many": ProblemType(409, "The project has as many as it may have", "Delete one first."),
    "gone": ProblemType(410, "The file's content is not there any more", "Its row is, its bytes are not."),
    "length-required": ProblemType(
        411, "The request does not say how long its body is", "Content-Length or a chunked body."
    ),
    "precondition": ProblemType(
        412, "It is not the file that is meant", "`ETag` is that of the file that is there."
    ),
    "too-large": ProblemType(413, "The body is too large", "`allowed` is how large it may be."),
    "media-type": ProblemType(
        415, "The body is not of a type that is read here", "JSON operations read `application/json` only."
    ),
    "range": ProblemType(
        416, "The range begins beyond the end", "`Content-Range` tells how long the file is."
    ),
    "idempotency-conflict": ProblemType(
        422,
        "This Idempotency-Key was used for another request",
        "The same key with the same body is answered with the first answer; with another body it is an error.",
    ),
    "rate": ProblemType(
        429,
        "The key has sent as many requests as it may in this time",
        "Send it again after `Retry-After` seconds. Every answer says in `RateLimit` how many requests are left.",
    ),
    "quota": ProblemType(
        429,
        "The project has as many jobs as it may have",
        "`value` is how many wait or are paused, `allowed` how many may. No Retry-After: nobody knows when one ends.",
    ),
    "storage-quota": ProblemType(
        507,
        "The project stores as much as it may",
        "`value` is how many bytes it stores, `allowed` how many it may. Nothing was kept.",
    ),
    "internal": ProblemType(
        500, "Internal Server Error", "Nothing about how: that is in the service's log, by `request_id`."
    ),
    "unavailable": ProblemType(
        503, "The service cannot answer this at the moment", "Send it again after `Retry-After` seconds."
    ),
    "no-room": ProblemType(
        507, "The service has no room for the file", "Its disk is full. Nothing was kept."
    ),
}
"""By their names, the last part of `type`."""


def uri(name: str) -> str:
    """The `type` of a problem document: it leads to what this service says of it, and is the same at every service."""
    return f"{PATH}/{name}"


def codes_of(name: str) -> list[str]:
    """The codes that answers of this type have, sorted."""
    return sorted(code for code, told in CODES.items() if told.type == name)
