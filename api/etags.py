"""Whether a condition of a request names an entity tag (RFC 9110, section 13.1)."""


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether an If-None-Match header does, by weak comparison; one that was not sent does not."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in (
        tag.strip().removeprefix("W/") for tag in if_none_match.split(",")
    )


def means(if_match: str, etag: str) -> bool:
    """Whether an If-Match header does, by strong comparison."""
    return if_match.strip() == "*" or etag in (tag.strip() for tag in if_match.split(","))
