"""Uploads in parts."""

from typing import Literal

from pydantic import ConfigDict, Field, model_validator

from api.schemas.base import ONE_LINE, Answer, Body, Id, Page, Time

MOST_PARTS = 1000
SHA256_EXAMPLE = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


class UploadCreate(Body):
    """Announces a file that comes in parts."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"size_bytes": 2147483648, "sha256": SHA256_EXAMPLE}]}
    )

    size_bytes: int = Field(ge=1, le=2**53, examples=[2147483648], description="Of the whole file.")
    part_bytes: int | None = Field(
        default=None,
        ge=2**16,
        le=2**30,
        examples=[16777216],
        description="Of each part but the last one, which is smaller. The service chooses where this is left out. "
        f"A file has at most {MOST_PARTS} parts.",
    )
    sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        examples=[SHA256_EXAMPLE],
        description="Of the whole file, in hex. With it an upload of this content that is there, complete or begun, is "
        "gone on with.",
    )


class UploadComplete(Body):
    """Says that all parts were sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"sha256": SHA256_EXAMPLE}]})

    sha256: str = Field(
        pattern="^[0-9a-f]{64}$", examples=[SHA256_EXAMPLE], description="Of the whole file, in hex."
    )


class ContentChoice(Body):
    """Content that is here already, or that the service fetches itself: `upload`, or `source`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"upload": "up_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"},
                {"source": "s3://lab-data/images/digits.npz"},
            ]
        }
    )

    upload: Id | None = Field(
        default=None,
        examples=["up_01KAQ8Z0V6M2Y6E9N1T4C7R5WB"],
        description="A complete upload in parts; it may be used any number of times while it is kept.",
    )
    source: str | None = Field(
        default=None,
        min_length=1,
        max_length=2048,
        pattern=ONE_LINE,
        examples=["s3://lab-data/images/digits.npz"],
        description="A file that need not travel: `s3://bucket/key`, or `file:///path` on the service's machines. The "
        "operator says which buckets and folders may be read (`ABDISTILL_IMPORT_FROM`); by default none.",
    )

    @model_validator(mode="after")
    def _upload_or_source(self) -> "ContentChoice":
        if (self.upload is None) == (self.source is None):
            raise ValueError("give either upload or source")
        return self


class UploadInParts(Answer):
    """A file that comes in parts, or came so."""

    object: Literal["upload"] = "upload"
    id: str
    state: Literal["open", "complete"] = Field(
        description="`open` until all parts are there and their sha256 was checked."
    )
    size_bytes: int
    part_bytes: int = Field(description="Size of each part but the last one.")
    num_parts: int = Field(description="They are numbered from 1.")
    sha256: str | None = Field(description="Of the whole file; null where it was not told yet.")
    created_at: Time
    updated_at: Time
    expires_at: Time = Field(description="When it will be removed, unless it is sent to or used before.")


class UploadInPartsPage(Page[UploadInParts]):
    """Part of a list of uploads."""


class UploadPart(Answer):
    """A part that has arrived."""

    object: Literal["upload_part"] = "upload_part"
    number: int
    size_bytes: int
    sha256: str
    created_at: Time


class UploadPartList(Page[UploadPart]):
    """The parts that have arrived, by number, all on one page."""
