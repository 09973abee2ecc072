"""The command `abdistill-server`."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from server.console import Console
from server.doctor import examine
from server.errors import CannotStart
from server.migrating import migrate as run_migrations
from server.up import up as run_all
from store import keys as store_keys
from store.database import Database
from store.errors import StoreError
from store.models import DEFAULT_PROJECT
from store.settings import Settings

EXIT_CODES = (
    "Exit codes: 0 stopped as asked, or all well · 1 cannot start, or a problem was found · 2 wrong usage."
)
LEVEL_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


class App(typer.Typer):
    """A command whose errors are one readable text, never a traceback."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # The doctor reports an old SQLite as a finding, API and worker log it: not before every answer here too.
        logging.getLogger("store.database").setLevel(logging.ERROR)
        try:
            return super().__call__(*args, **kwargs)
        except (CannotStart, StoreError) as error:
            sys.exit(f"error: {error}")
        except SQLAlchemyError as error:
            reason = getattr(error, "orig", None) or error
            sys.exit(f"error: the database cannot be used: {reason}. `abdistill-server doctor` says more.")


app = App(
    no_args_is_help=True,
    help="Run an abdistill service. Settings come from ABDISTILL_* variables; options here go before them.",
    epilog=EXIT_CODES,
    pretty_exceptions_show_locals=False,
)
keys = typer.Typer(no_args_is_help=True, help="API keys.")
app.add_typer(keys, name="keys")

DataDir = Annotated[
    Path | None, typer.Option(help="Folder of all that the service keeps.  [default: .abdistill]")
]


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on.  [default: 127.0.0.1]")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0: any free one.  [default: 8420]")
    ] = None,
    data_dir: DataDir = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Do not show what the processes print.")] = False,
) -> None:
    """Run everything on this machine: broker, API and worker; Ctrl-C stops it."""
    run_all(_settings(host=host, port=port, data_dir=data_dir), Console(quiet=quiet))


@app.command()
def migrate(data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema."""
    settings = _settings(data_dir=data_dir)
    run_migrations(settings.database_url)
    typer.echo("the database is up to date")


@app.command()
def doctor(data_dir: DataDir = None) -> None:
    """Look at what the service needs on this machine, and say what to do about what is missing."""
    problems = 0
    for finding in examine(_settings(data_dir=data_dir)):
        problems += finding.level == "problem"
        mark = typer.style(f"{finding.level:<8}", fg=LEVEL_COLOURS[finding.level])
        typer.echo(f"{mark} {finding.name:<9} {finding.text}")
        if finding.level != "ok" and finding.advice:
            typer.echo(f"{'':<19}{finding.advice}")
    if problems:
        raise typer.Exit(1)


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help=f"{', '.join(get_args(store_keys.Scope))}; all by default."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it: it is shown this once, only its hash is kept."""
    unknown = set(scopes or ()) - store_keys.SCOPES
    if unknown:
        allowed = ", ".join(get_args(store_keys.Scope))
        raise typer.BadParameter(f"no such scope: {', '.join(sorted(unknown))} (there are: {allowed})")
    chosen = [scope for scope in get_args(store_keys.Scope) if not scopes or scope in scopes]
    key, secret = store_keys.create_key(_database(data_dir), DEFAULT_PROJECT, name, chosen)
    typer.echo(f"{key.id} ({', '.join(key.scopes)})", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """All keys, without their secrets."""
    for key in store_keys.list_keys(_database(data_dir), DEFAULT_PROJECT):
        created = datetime.fromtimestamp(key.created_at, UTC)
        state = "revoked" if key.revoked_at else "active"
        typer.echo(
            f"{key.id}  {state:<7}  ...{key.hint}  {created:%Y-%m-%d %H:%M}  {','.join(key.scopes)}  {key.name}"
        )


@keys.command("revoke")
def revoke_key(key_id: str, data_dir: DataDir = None) -> None:
    """Make a key worthless from the next request on."""
    store_keys.revoke_key(_database(data_dir), DEFAULT_PROJECT, key_id)
    typer.echo(f"{key_id} is revoked")


def _settings(**given: Any) -> Settings:
    """The settings of the environment, with what the command line gives laid over them."""
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        lines = []
        for item in error.errors():
            variable = "".join(f"ABDISTILL_{str(part).upper()}: " for part in item["loc"])
            lines.append(variable + item["msg"].removeprefix("Value error, "))
        sys.exit("error: " + "\n       ".join(lines))


def _database(data_dir: Path | None) -> Database:
    return Database(_settings(data_dir=data_dir).database_url)
