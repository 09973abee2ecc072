"""The audit log, as those who may read it see it."""

from typing import Literal

from pydantic import Field

from api.schemas.base import Answer, Page, Time


class AuditEntry(Answer):
    """A request that asked for a change, or was refused for its key."""

    object: Literal["audit_entry"] = "audit_entry"
    id: str
    time: Time = Field(description="When it was answered.")
    key_id: str | None = Field(description="Whose request it was.")
    key_name: str | None = Field(description="The key's name at that time.")
    operation: str = Field(description="An `operationId` of this document.", examples=["create_job"])
    object_id: str | None = Field(description="What was made, or what the path names.")
    status: int = Field(description="HTTP status of the answer.")
    address: str | None = Field(description="Where it came from, as the service saw it.")
    request_id: str = Field(description="Finds the request in the service's log.")


class AuditPage(Page[AuditEntry]):
    """Part of the audit log."""
