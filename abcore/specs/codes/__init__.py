"""Every code that a problem can have, with its meaning and what to do about it: listed here and nowhere else.

`Problem` takes its hint from here where it is given none, the API its answer's type and status, and docs/problems.md is
made of it. A code is stable: it may be added, and its words may change; what it means may not.
"""

from abcore.specs.codes.code import Code
from abcore.specs.codes.jobs import JOBS
from abcore.specs.codes.requests import REQUESTS
from abcore.specs.codes.specs import SPECS
from abcore.specs.codes.sweeps import SWEEPS
from abcore.specs.codes.uploads import UPLOADS

AREAS: dict[str, dict[str, Code]] = {
    "requests": REQUESTS,
    "specs": SPECS,
    "sweeps": SWEEPS,
    "uploads": UPLOADS,
    "jobs": JOBS,
}
"""By what is wrong: the request, what it asks for (alone, or in a sweep), the content of an upload, a job's run."""

CODES: dict[str, Code] = {code: told for area in AREAS.values() for code, told in area.items()}
"""All of them."""
