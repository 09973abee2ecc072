"""`abdistill usage`."""

import typer

from abdistill.cli.rendering import print_fields, print_json, size
from abdistill.cli.session import JsonOption, client_of
from abdistill.models import Quota


def usage(context: typer.Context, as_json: JsonOption = False) -> None:
    """What the key's project has, of what it may have."""
    found = client_of(context).usage()
    if as_json:
        print_json(found)
        return
    stored = found.stored_bytes
    print_fields(
        {
            "project": found.project,
            "stored": f"{size(stored.used)} of {size(stored.limit) or 'any number'}",
            "running jobs": _of(found.running_jobs),
            "queued jobs": _of(found.queued_jobs),
        }
    )


def _of(quota: Quota) -> str:
    return f"{quota.used} of {'any number' if quota.limit is None else quota.limit}"
