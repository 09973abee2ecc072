"""What a route says of itself that FastAPI cannot see: how it refuses, and bodies that are no JSON."""

from typing import Any

from api.problems import MEDIA_TYPE

_WHEN = {
    400: "The body cannot be read, or was cut off",
    401: "No API key, or one that is not valid",
    403: "The key's scopes do not allow this",
    404: "No such object in this key's project",
    408: "The body did not come in time",
    409: "The object's state does not allow this",
    410: "The file's content is not there any more",
    411: "The request does not say how long its body is",
    412: "It is not the file that If-Match names",
    413: "The body is too large",
    415: "The body is not JSON",
    416: "The range begins beyond the end",
    422: "Something in the request is wrong; `errors` says what, where, and what is allowed",
    429: "Too many requests of this key, until Retry-After; or as many jobs of the project as it may have",
    500: "The service has a fault of its own; its log has more, by `request_id`",
    503: "The service cannot answer this at the moment; try again after Retry-After seconds",
    507: "The service, or the project by its quota, has no room for the file",
}
Responses = dict[int | str, dict[str, Any]]


def refusals(*statuses: int) -> Responses:
    """Return what a route can answer instead of success."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _WHEN[status], "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


EVERY_ROUTE = refusals(401, 403, 422, 429)

UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The file's bytes as they are; no multipart form.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
    "parameters": [
        {
            "name": "Content-Digest",
            "in": "header",
            "description": "RFC 9530, `sha-256` only: the body is refused where it has another.",
            "schema": {"type": "string", "pattern": "^sha-256=:[A-Za-z0-9+/]{43}=:$"},
            "example": "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:",
        },
        {
            "name": "X-Content-SHA256",
            "in": "header",
            "description": "The same in hex.",
            "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
            "example": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        },
    ],
}
