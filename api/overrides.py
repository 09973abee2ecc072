"""A job's body with some of its fields set anew, each named by its path."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from abcore.specs.presets import lay_over
from abcore.specs.refusals import Problem
from api.problems import Refused
from api.schemas.jobs import JobClone, JobCreate
from api.validation import problems_in
from store.models import Job

Path = tuple[str, ...]
VARIABLE = (
    "student", "recipe", "teacher", "dataset", "preset", "outputs", "priority", "devices", "max_runtime_seconds",
)  # fmt: skip
"""The fields of a job that may vary within a sweep; what lies below them may too."""


def parse_path(text: str) -> Path:
    """Read `recipe.transfer.epochs` or the JSON pointer (RFC 6901) `/recipe/transfer/epochs`."""
    if not text.startswith("/"):
        return tuple(text.split("."))
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text[1:].split("/"))


def set_at(body: dict[str, Any], path: Path, value: Any) -> Path | None:
    """Set one field; objects on the way that are missing are made.

    Returns:
        None, or the path up to the first place that has no fields or items.
    """
    here: Any = body
    for place, part in enumerate(path):
        last = place == len(path) - 1
        if isinstance(here, list) and part.isdecimal() and int(part) < len(here):
            key: Any = int(part)
        elif isinstance(here, dict):
            key = part
            if not last and here.get(part) is None:
                here[part] = {}
        else:
            return path[:place]
        if last:
            here[key] = copy.deepcopy(value)
        here = here[key]
    return None


def read_at(body: Any, path: Sequence[str]) -> Any:
    """Return what is at a path; None where nothing is."""
    for part in path:
        if isinstance(body, list) and part.isdecimal() and int(part) < len(body):
            body = body[int(part)]
        elif isinstance(body, Mapping):
            body = body.get(part)
        else:
            return None
    return body


def validated(body: dict[str, Any]) -> JobCreate | list[Problem]:
    """Return a job's body, or what is wrong with it."""
    try:
        return JobCreate.model_validate(body)
    except ValidationError as error:
        return problems_in(error, body, JobCreate)


def changed(job: Job, changes: JobClone) -> JobCreate:
    """Return the body of a job like `job`, but for what `changes` has.

    Raises:
        Refused: 422, with those changes it is no job.
    """
    given = {name: getattr(changes, name) for name in changes.model_fields_set}
    body = {
        "teacher": job.teacher_id,
        "dataset": job.dataset_id,
        "name": job.name,
        "labels": job.labels,
        "priority": job.priority,
        "devices": job.devices,
        "max_runtime_seconds": job.max_runtime_seconds,
        **{part: job.spec[part] for part in ("student", "recipe", "outputs")},
    }
    for part, value in given.items():
        starts_anew = part == "recipe" and given.get("preset") is not None
        starts_anew |= part == "student" and isinstance(value, dict) and "arch" in value
        merges = isinstance(value, dict) and part != "labels" and not starts_anew
        body[part] = lay_over(body[part], value) if merges else value
    if given.get("preset") is not None and "recipe" not in given:
        del body["recipe"]
    found = validated(body)
    if isinstance(found, list):
        raise Refused(*found)
    return found
