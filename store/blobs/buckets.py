"""Buckets of S3, or of a server that speaks its language: where they are, and what goes wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from store.blobs.interface import missing
from store.errors import BlobsUnusable, UnsupportedUrl

if TYPE_CHECKING:
    from obstore.store import S3Config

REQUEST_SECONDS = 120.0


class Bucket(NamedTuple):
    """Where a bucket is, from `s3://name/prefix?endpoint=...&region=...`. Credentials are not part of it."""

    name: str
    prefix: str
    endpoint: str | None
    region: str | None

    @classmethod
    def parse(cls, url: str) -> "Bucket":
        """Read an address.

        Raises:
            UnsupportedUrl
        """
        parts = urlsplit(url)
        options = parse_qs(parts.query, keep_blank_values=True)
        unknown = set(options) - {"endpoint", "region"}
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or unknown or parts.fragment:
            raise UnsupportedUrl(
                f"{url!r} is not supported: use s3://bucket/prefix?endpoint=https://host:port&region=name; prefix, "
                "endpoint and region may be left out, and credentials belong into AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY."
            )
        endpoint, region = (options.get(name, [""])[-1] or None for name in ("endpoint", "region"))
        return cls(parts.netloc, unquote(parts.path).strip("/"), endpoint, region)

    def open(self, patience_seconds: float) -> S3Store:
        """Connect at the first request, with the credentials that the usual AWS variables and services give.

        For `patience_seconds` a request is tried again where the server does not answer, or with a fault of its own.
        """
        config: S3Config = {"checksum_algorithm": "SHA256"}
        if self.endpoint is not None:
            config["endpoint"] = self.endpoint
        if self.region is not None:
            config["region"] = self.region
        return S3Store(
            self.name,
            prefix=self.prefix or None,
            config=config,
            client_options={
                "allow_http": True,
                "connect_timeout": timedelta(seconds=min(patience_seconds, 5.0)),
                "timeout": timedelta(seconds=min(patience_seconds * 4, REQUEST_SECONDS)),
            },
            retry_config={"max_retries": 20, "retry_timeout": timedelta(seconds=patience_seconds)},
        )

    @contextmanager
    def told(self, key: str = "") -> Iterator[None]:
        """Tell what the library raises in our own words."""
        place = f"s3://{self.name}" + (f" at {self.endpoint}" if self.endpoint else "")
        try:
            yield
        except FileNotFoundError:
            raise missing(key) from None
        except BaseError as error:
            if _is_refusal(error):
                raise BlobsUnusable(
                    f"The blob store {place} refuses us: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that "
                    f"they may read, write, list and delete there ({_first_line(error)})."
                ) from error
            if "NoSuchBucket" in str(error):
                raise BlobsUnusable(
                    f"There is no bucket {self.name!r} for blobs: make it, or correct {place}."
                ) from error
            raise BlobsUnusable(
                f"The blob store {place} does not answer as it should: {_first_line(error)}."
            ) from error


def _is_refusal(error: BaseError) -> bool:
    # Where a list is refused the library has no class for it.
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or "403 Forbidden" in str(error)


def _first_line(error: Exception) -> str:
    """What happened, without the library's debugging text."""
    return str(error).partition("\n")[0].rstrip(" .:")
