"""A request is wrong, may not be made, or comes at the wrong time."""

from abcore.specs.codes.code import Code

_TYPE = "Send a value of the type that the field has."
_LIMIT = "`allowed` is the limit."

REQUESTS: dict[str, Code] = {
    # who asks
    "key.invalid": Code(
        "The request has no API key, or one that is unknown or revoked.",
        "Send `Authorization: Bearer abd_...`; an operator makes keys with `abdistill-server keys create`.",
        "unauthenticated",
    ),
    "key.expired": Code(
        "The key was made for a time that is over.",
        "An operator makes another with `abdistill-server keys create`.",
        "unauthenticated",
    ),
    "key.last_admin": Code(
        "Without this key nobody could make or revoke the project's keys over HTTP any more.",
        "Make another with the scope `admin` first, or rotate it if its secret was seen; an operator can revoke it "
        "all the same: `abdistill-server keys revoke`.",
        "conflict",
    ),
    "key.scope": Code(
        "The key is good, and its scopes do not allow this.",
        "Use a key with a scope of `allowed`.",
        "forbidden",
    ),
    "request.rate": Code(
        "The key has sent as many requests as it may in this time.",
        "Wait for Retry-After seconds. News without asking again and again: `?wait=`, `/stream`, webhooks.",
        "rate",
    ),
    # what cannot be read
    "request.bad_request": Code(
        "The body cannot be read as JSON at all: not UTF-8, nested too deeply, or a number too long.",
        "Send plain JSON.",
        "bad-request",
    ),
    "request.json_invalid": Code("The body is not JSON.", "The message says at which character it breaks."),
    "request.media_type": Code(
        "The body is not said to be JSON.", "Send `Content-Type: application/json`.", "media-type"
    ),
    "request.too_large": Code(
        "A JSON body is larger than any request needs.", "Files are sent by PUT .../content.", "too-large"
    ),
    "request.slow": Code(
        "The body of the request did not come in time; of an upload, the next part of it.",
        "Nothing was kept; send it again, over a better connection. An operator may raise ABDISTILL_REQUEST_SECONDS.",
        "timeout",
    ),
    "request.not_found": Code(
        "No operation has this path.",
        "/docs lists every path with its methods, fields and examples.",
        "not-found",
    ),
    "request.method_not_allowed": Code(
        "The path is there, and not for this method.",
        "Use a method of `allowed`; /docs lists every path with its methods, fields and examples.",
        "method-not-allowed",
    ),
    "request.range": Code(
        "The range begins beyond the end of the file.",
        "Ask within `allowed`; a download that is complete needs no more.",
        "range",
    ),
    "request.if_match": Code(
        "The file is not the one that If-Match names.",
        "Download it from its beginning, or leave the header out.",
        "precondition",
    ),
    # fields and parameters
    "request.invalid": Code("A field breaks a rule that has no code of its own.", "The message says which."),
    "request.missing": Code("A required field or parameter is not there.", "Add it."),
    "request.extra_forbidden": Code(
        "There is no such field or parameter.",
        "Remove it, or take a name of `allowed`; what is not known is not ignored.",
    ),
    "request.literal_error": Code(
        "The value is none of those that the field takes.", "Take one of `allowed`."
    ),
    "request.union_tag_invalid": Code("There is no such kind of thing.", "Take one of `allowed`."),
    "request.union_tag_not_found": Code(
        "It is not said which kind of thing is meant.", "Say one of `allowed`."
    ),
    "request.value_error": Code(
        "The value, or several together, break a rule of their own.", "The message says which."
    ),
    "request.string_type": Code("The value is no text.", _TYPE),
    "request.string_too_short": Code("The text is shorter than it must be.", _LIMIT),
    "request.string_too_long": Code("The text is longer than it may be.", _LIMIT),
    "request.string_pattern_mismatch": Code(
        "The text does not have the form that it must have.", "`allowed` is its pattern."
    ),
    "request.string_unicode": Code("The text is not valid Unicode.", "Send it as UTF-8."),
    "request.int_type": Code("The value is no whole number.", _TYPE),
    "request.int_parsing": Code("The text is no whole number.", _TYPE),
    "request.int_parsing_size": Code("The number has more digits than can be read.", _TYPE),
    "request.int_from_float": Code("The number has a fractional part.", _TYPE),
    "request.float_type": Code("The value is no number.", _TYPE),
    "request.float_parsing": Code("The text is no number.", _TYPE),
    "request.finite_number": Code("The number is infinite or none at all.", _TYPE),
    "request.bool_type": Code("The value is neither true nor false.", _TYPE),
    "request.bool_parsing": Code("The text is neither `true` nor `false`.", _TYPE),
    "request.datetime_parsing": Code(
        "The text is no date and time.", "Write it as RFC 3339: 2026-01-31T12:00:00Z."
    ),
    "request.datetime_from_date_parsing": Code(
        "The text is no date and time.", "Write it as RFC 3339: 2026-01-31T12:00:00Z."
    ),
    "request.timezone_aware": Code(
        "The date and time does not say of which time zone it is.",
        "Write it as RFC 3339: 2026-01-31T12:00:00Z.",
    ),
    "request.greater_than": Code("The number is not above its limit.", _LIMIT),
    "request.greater_than_equal": Code("The number is below its limit.", _LIMIT),
    "request.less_than": Code("The number is not below its limit.", _LIMIT),
    "request.less_than_equal": Code("The number is above its limit.", _LIMIT),
    "request.too_short": Code("The list has fewer items than it must have.", _LIMIT),
    "request.too_long": Code("The list or object has more items than it may have.", _LIMIT),
    "request.list_type": Code("The value is no list.", _TYPE),
    "request.tuple_type": Code("The value is no list.", _TYPE),
    "request.dict_type": Code("The value is no object.", _TYPE),
    "request.model_type": Code("The value is no object.", _TYPE),
    "request.model_attributes_type": Code("The value is no object.", _TYPE),
    "cursor.invalid": Code(
        "The cursor is not one that this list has returned.",
        "Pass a page's `next_cursor` back unchanged, with the same filters; or none.",
    ),
    # objects and their states
    "not_found": Code(
        "There is no such object in the key's project.",
        "Check the id, and that the key is of the project that the object is in.",
        "not-found",
    ),
    "dataset.unknown": Code(
        "The project has no dataset with this id.", "GET /v1/datasets lists those that there are."
    ),
    "teacher.unknown": Code(
        "The project has no teacher with this id.", "GET /v1/teachers lists those that there are."
    ),
    "upload.unknown": Code(
        "The project has no upload with this id.", "GET /v1/uploads lists those that there are."
    ),
    "import.not_allowed": Code(
        "The source lies in no folder or bucket that the service imports from.",
        "`allowed` lists the places, if there are any; an operator may add one (`ABDISTILL_IMPORT_FROM`).",
    ),
    "dataset.not_ready": Code(
        "The dataset is not verified yet, or was found invalid.",
        "GET it: it says what it waits for, or why.",
        "not-ready",
    ),
    "teacher.not_ready": Code(
        "The teacher is not verified yet, or was found invalid.",
        "GET it: it says what it waits for, or why.",
        "not-ready",
    ),
    "upload.not_ready": Code(
        "What is asked for is there once the upload is ready; or what a job uses ceased to be ready just now.",
        "GET it: it says why.",
        "not-ready",
    ),
    "upload.exists": Code(
        "Other content was uploaded here before.", "Create a new object for new content.", "already-uploaded"
    ),
    "in_use": Code("A job that has not ended uses it.", "Cancel that job, or wait for its end.", "in-use"),
    "conflict": Code(
        "The object is in a state in which this cannot be done.", "GET it: `state` is what it is.", "conflict"
    ),
    "job.not_cancellable": Code("The job has ended.", "Nothing is left to do.", "conflict"),
    "job.not_pausable": Code(
        "The job has ended, or is paused.", "Only a queued or running job can be paused.", "conflict"
    ),
    "job.not_paused": Code("The job is not paused.", "Only a paused job can be resumed.", "conflict"),
    "job.not_retryable": Code(
        "The job is no distillation that failed or was cancelled.",
        "Create a new job with POST /v1/jobs.",
        "conflict",
    ),
    "job.not_deletable": Code("The job has not ended.", "Cancel it first, or wait for its end.", "conflict"),
    "job.not_succeeded": Code(
        "The job has not succeeded, so there is no student.",
        "Wait for its end: `GET /v1/jobs/{id}?wait=30`, `/stream`, or a webhook.",
        "conflict",
    ),
    "job.student_too_large": Code(
        "The student is larger than what the service itself runs.",
        "Download it and run it yourself.",
        "conflict",
    ),
    "image.unreadable": Code(
        "An image file cannot be decoded.",
        "`where` says which; send it as PNG or JPEG with 8 bits a channel.",
    ),
    "idempotency.conflict": Code(
        "This Idempotency-Key came before with another body.",
        "Use a new key for a new request.",
        "idempotency-conflict",
    ),
    # sending files
    "upload.length": Code(
        "The request does not say how long its body is.",
        "Send Content-Length, or a chunked body.",
        "length-required",
    ),
    "upload.empty": Code("The body is empty.", "Send the file's bytes as the body, as they are."),
    "upload.cut": Code("The body ended before its end.", "Nothing was kept; send it again.", "upload-cut"),
    "upload.digest": Code(
        "The digest header is no sha256, or the body has another.",
        "Compute the sha256 of the file as it is sent; if it is right, the file changed on its way: send it again.",
    ),
    "upload.too_large": Code(
        "The file is larger than this service takes.",
        "Send a smaller file, or let the operator raise ABDISTILL_MAX_UPLOAD_BYTES.",
        "too-large",
    ),
    "upload.part_number": Code(
        "The upload has no part of this number.", "Parts are numbered from 1 to the upload's `num_parts`."
    ),
    "upload.part_size": Code(
        "The part has not the size that it must have.",
        "All parts have the upload's `part_bytes`, the last one what is left.",
    ),
    "upload.part_bytes": Code(
        "The file would have more parts than an upload may have.",
        "Take larger parts, or leave `part_bytes` out.",
    ),
    "upload.parts_missing": Code(
        "Not all parts have arrived, or one was replaced at that moment.",
        "GET .../parts lists those that are there; send the others, then complete it.",
        "conflict",
    ),
    "upload.open": Code(
        "The upload is not complete.", "Send the parts that are missing, then complete it.", "conflict"
    ),
    "upload.complete": Code(
        "The upload is complete, and its content cannot change any more.",
        "Create a new one for other content.",
        "conflict",
    ),
    "upload.whole_digest": Code(
        "All parts together have another sha256 than the file is said to have.",
        "The file changed while it was sent: send the parts that differ again, or begin anew.",
    ),
    "upload.no_room": Code(
        "The service's disk is full.",
        "Nothing was kept. Delete what is not needed, or tell the operator.",
        "no-room",
    ),
    "blob.missing": Code(
        "The file's content is not there any more.",
        "Run the job again: the same recipe makes the same file.",
        "gone",
    ),
    "blob.unusable": Code(
        "The service cannot reach the store of its files, or is refused by it.",
        "Send the request again after Retry-After seconds; if it stays so, tell the operator, whose log says more.",
        "unavailable",
    ),
    "database.away": Code(
        "The service cannot reach its database, or waits in vain for its turn there.",
        "Send the request again after Retry-After seconds, one that makes a job with its Idempotency-Key.",
        "unavailable",
    ),
    # what a project may have
    "quota.queued_jobs": Code(
        "As many of the project's jobs wait or are paused as may.",
        "Wait until one has ended, or cancel some; GET /v1/usage tells how many there are. An operator may allow more.",
        "quota",
    ),
    "quota.stored_bytes": Code(
        "The project stores as many bytes as it may.",
        "Delete teachers, datasets or jobs; GET /v1/usage tells how many bytes there are. An operator may allow more.",
        "storage-quota",
    ),
    # webhooks
    "webhook.url": Code(
        "The address could never be sent to: it leads inside, or not over https.",
        "Take an https address on the public internet; an operator may allow more.",
    ),
    "webhook.secret": Code(
        "The secret does not have the form of one.", "`whsec_` and base64 of 24 to 64 bytes; or none."
    ),
    "webhook.limit": Code(
        "The project has as many webhooks as it may have.",
        "Delete one; a webhook may ask for any number of events.",
        "too-many",
    ),
    "webhook.disabled": Code(
        "The webhook is disabled, and is told nothing.", "PATCH it with `enabled` true first.", "conflict"
    ),
    # the service itself
    "unavailable": Code(
        "The process that answers questions about networks is busy or being restarted.",
        "Send the request again after Retry-After seconds.",
        "unavailable",
    ),
    "internal": Code(
        "The service has a fault of its own.",
        "Tell its operator the request_id, which finds it in the log.",
        "internal",
    ),
}
