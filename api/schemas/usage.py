"""What a project has of what it may have."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from api.schemas.base import Answer
from store.quotas import QuotaName, Use


class Quota(Answer):
    """How much of one thing there is, and may be."""

    used: int
    limit: int | None = Field(description="Null: none.")


class Usage(Answer):
    """What a project has. Verifications of uploads count neither as running nor as waiting."""

    object: Literal["usage"] = "usage"
    project: str
    stored_bytes: Quota = Field(description="Bytes of teachers, datasets, and files that jobs left.")
    running_jobs: Quota
    queued_jobs: Quota = Field(description="Jobs that wait or are paused.")

    @classmethod
    def of(cls, project_id: str, used: Mapping[QuotaName, Use]) -> "Usage":
        """Show what was counted."""
        return cls.model_validate({"project": project_id, **used})
