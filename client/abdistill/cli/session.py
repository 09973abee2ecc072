"""What every command shares: the client, where output goes, and how an error becomes an exit code."""

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from abdistill.client import Client
from abdistill.errors import (
    AbdistillError,
    ApiError,
    ConfigurationError,
    ConnectionFailed,
    IntegrityError,
    JobFailed,
    Rejected,
    ServerError,
    Timeout,
)

EXIT_CODES = """\
Exit codes: 0 done · 1 the job failed or was cancelled, or the upload is unusable · 2 wrong usage, or a file that \
cannot be read or written · 3 the service refused the request · 4 the service cannot be reached or has a fault · \
5 not done within --timeout · 6 what arrived is damaged · 130 interrupted (the service goes on)."""

# The first class that fits decides.
_CODES: tuple[tuple[type[AbdistillError], int], ...] = (
    (JobFailed, 1),
    (Rejected, 1),
    (ConfigurationError, 2),
    (ServerError, 4),
    (ApiError, 3),
    (ConnectionFailed, 4),
    (Timeout, 5),
    (IntegrityError, 6),
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, for scripts.")]
TimeoutOption = Annotated[
    float | None, typer.Option("--timeout", min=0, metavar="SECONDS", help="Wait no longer than this.")
]

# Answers go to standard output; progress and errors to standard error, so that output can be piped.
out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False)


class App(typer.Typer):
    """A command whose errors are one readable text and an exit code, never a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().__call__(*args, **kwargs)
        except AbdistillError as error:
            err.print(f"[red]error:[/red] {escape(str(error))}", soft_wrap=True)
            sys.exit(exit_code(error))


def exit_code(error: AbdistillError) -> int:
    """The exit code for an error; see EXIT_CODES."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), 1)


def client_of(context: typer.Context) -> Client:
    """The client that the options before the command describe; closed when the command ends."""
    settings: dict[str, str | None] = context.obj
    client = Client(settings["url"], settings["api_key"])
    context.call_on_close(client.close)
    return client
