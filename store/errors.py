"""What the store can answer instead of a row. A class's docstring is its message when none is given."""

from typing import ClassVar


class StoreError(Exception):
    """The store could not do what was asked."""

    code: ClassVar[str] = "store.error"

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class BadCursor(StoreError):
    """The cursor is not one that a list has returned: pass a page's next_cursor back unchanged, or none."""

    code = "cursor.invalid"


class UnsupportedUrl(StoreError):
    """The address names a kind of database or blob store that this version cannot use."""

    code = "settings.url"


class Unauthenticated(StoreError):
    """The API key is unknown or was revoked."""

    code = "key.invalid"


class KeyExpired(Unauthenticated):
    """The API key has expired."""

    code = "key.expired"


class QuotaExceeded(StoreError):
    """The project has as much of this as its operator lets it have."""

    code = "quota"

    def __init__(self, message: str, used: int, limit: int) -> None:
        super().__init__(message)
        self.used = used
        self.limit = limit


class QueueFull(QuotaExceeded):
    """As many of the project's jobs wait as may."""

    code = "quota.queued_jobs"


class StorageFull(QuotaExceeded):
    """The project stores as many bytes as it may."""

    code = "quota.stored_bytes"


class NotFound(StoreError):
    """There is no such object in this project."""

    code = "not_found"

    def __init__(self, kind: str, id_: str) -> None:
        super().__init__(f"There is no {kind} {id_!r} in this project.")


class UnknownUpload(StoreError):
    """What is to be the content is no upload of this project."""

    code = "upload.unknown"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"There is no upload {upload_id!r} in this project.")
        self.upload_id = upload_id


class Conflict(StoreError):
    """The object is in a state in which this cannot be done."""

    code = "conflict"


class IdempotencyConflict(Conflict):
    """This Idempotency-Key was used before with another request body: use a new key for a new request."""

    code = "idempotency.conflict"


class NotReady(Conflict):
    """A job can only use a teacher and a dataset whose verification succeeded."""

    code = "upload.not_ready"


class AlreadyUploaded(Conflict):
    """Other content was uploaded here before: create a new object for new content."""

    code = "upload.exists"


class UploadOpen(Conflict):
    """Only an upload whose parts are all there, and that was completed, can be used."""

    code = "upload.open"


class UploadComplete(Conflict):
    """The upload is complete: its content cannot change any more."""

    code = "upload.complete"


class PartMissing(Conflict):
    """Not all parts of the upload are there."""

    code = "upload.parts_missing"


class InUse(Conflict):
    """A job that has not ended uses it: cancel that job, or wait for its end."""

    code = "in_use"


class NotCancellable(Conflict):
    """The job has ended: there is nothing left to cancel."""

    code = "job.not_cancellable"


class NotPausable(Conflict):
    """Only a queued or running job can be paused."""

    code = "job.not_pausable"


class NotPaused(Conflict):
    """Only a paused job can be resumed."""

    code = "job.not_paused"


class NotRetryable(Conflict):
    """Only a distillation that failed or was cancelled can be run again."""

    code = "job.not_retryable"


class NotDeletable(Conflict):
    """Only a job that has ended can be deleted."""

    code = "job.not_deletable"


class TooManyWebhooks(Conflict):
    """The project has as many webhooks as it may have: delete one first."""

    code = "webhook.limit"


class LastAdminKey(Conflict):
    """No other key of the project with the scope admin would be left."""

    code = "key.last_admin"


class WebhookDisabled(Conflict):
    """A webhook that is disabled is told nothing: enable it first."""

    code = "webhook.disabled"


class BadSecret(StoreError):
    """A webhook's secret is `whsec_` and base64 of 24 to 64 bytes."""

    code = "webhook.secret"


class LeaseLost(StoreError):
    """The job is no longer this worker's: stop its child and write nothing more about it."""

    code = "lease.lost"


class BlobError(StoreError):
    """The blob store could not do what was asked."""

    code = "blob.error"


class BadBlobKey(BlobError):
    """A blob key is relative, made of plain names and slashes."""

    code = "blob.bad_key"


class BlobMissing(BlobError):
    """There is no file at this key."""

    code = "blob.missing"


class BlobCorrupt(BlobError):
    """The file's bytes are not those that were stored."""

    code = "blob.corrupt"


class BlobsUnusable(BlobError):
    """The blob store is away, or refuses us: look at its server, its bucket and the credentials."""

    code = "blob.unusable"
