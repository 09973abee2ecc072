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
from store import audit as store_audit
from store import keys as store_keys
from store import projects as store_projects
from store import quotas as store_quotas
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
projects = typer.Typer(
    no_args_is_help=True, help="Projects: what is of one is invisible to the keys of others."
)
app.add_typer(projects, name="projects")

DAY_SECONDS = 86400
DataDir = Annotated[
    Path | None, typer.Option(help="Folder of all that the service keeps.  [default: .abdistill]")
]
Limit = Annotated[str | None, typer.Option(metavar="NUMBER|none", help="Most of these.")]
ProjectId = Annotated[str, typer.Option("--project", help="Whose key.")]


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
    days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="It expires after so many days.  [default: never]")
    ] = None,
    project: ProjectId = DEFAULT_PROJECT,
    data_dir: DataDir = None,
) -> None:
    """Make a key and print it: it is shown this once, only its hash is kept."""
    unknown = set(scopes or ()) - store_keys.SCOPES
    if unknown:
        allowed = ", ".join(get_args(store_keys.Scope))
        raise typer.BadParameter(f"no such scope: {', '.join(sorted(unknown))} (there are: {allowed})")
    chosen = [scope for scope in get_args(store_keys.Scope) if not scopes or scope in scopes]
    lifetime = None if days is None else days * DAY_SECONDS
    key, secret = store_keys.create_key(_database(data_dir), project, name, chosen, lifetime_seconds=lifetime)
    typer.echo(f"{key.id} ({', '.join(key.scopes)}), expires: {_moment(key.expires_at)}", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(project: ProjectId = DEFAULT_PROJECT, data_dir: DataDir = None) -> None:
    """A project's keys, without their secrets."""
    for key in store_keys.list_keys(_database(data_dir), project):
        state = "revoked" if key.revoked_at else "active"
        times = f"expires: {_moment(key.expires_at)}  last used: {_moment(key.last_used_at)}"
        typer.echo(
            f"{key.id}  {state:<7}  ...{key.hint}  {_moment(key.created_at)}  {times}  "
            f"{','.join(key.scopes)}  {key.name}"
        )


@keys.command("revoke")
def revoke_key(key_id: str, project: ProjectId = DEFAULT_PROJECT, data_dir: DataDir = None) -> None:
    """Make a key worthless from the next request on."""
    store_keys.revoke_key(_database(data_dir), project, key_id)
    typer.echo(f"{key_id} is revoked")


@keys.command("rotate")
def rotate_key(
    key_id: str,
    overlap: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="The secret before opens too for so long.")
    ] = DAY_SECONDS,
    project: ProjectId = DEFAULT_PROJECT,
    data_dir: DataDir = None,
) -> None:
    """Give a key a new secret and print it, this once. One that somebody saw: --overlap 0."""
    key, secret = store_keys.rotate_key(_database(data_dir), project, key_id, overlap_seconds=overlap)
    typer.echo(f"{key.id}: the secret before opens until {_moment(key.previous_until)}", err=True)
    typer.echo(secret)


@app.command()
def audit(
    project: Annotated[
        str, typer.Option(help="Whose; `none`: requests without a good key.")
    ] = DEFAULT_PROJECT,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Show at most this many, newest first.")
    ] = 100,
    data_dir: DataDir = None,
) -> None:
    """Who asked for what change, or was refused: time, status, operation, object, key, address, request id."""
    wanted = None if project == "none" else project
    for one in store_audit.list_entries(_database(data_dir), wanted, limit=limit).items:
        who = f"{one.key_id} ({one.key_name})" if one.key_id else "-"
        words = (one.status, one.operation, one.object_id or "-", who, one.address or "-", one.request_id)
        typer.echo(f"{_moment(one.time)}  " + "  ".join(map(str, words)))


@projects.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Whose it is.")], data_dir: DataDir = None
) -> None:
    """Make a project and print its id; `keys create --project` makes the keys that open it."""
    typer.echo(store_projects.create_project(_database(data_dir), name).id)


@projects.command("list")
def list_projects(data_dir: DataDir = None) -> None:
    """All projects, oldest first."""
    for project in store_projects.list_projects(_database(data_dir)):
        typer.echo(f"{project.id}  {_moment(project.created_at)}  {project.name}")


@projects.command("quota")
def quota(
    project_id: str,
    stored_bytes: Limit = None,
    running_jobs: Limit = None,
    queued_jobs: Limit = None,
    data_dir: DataDir = None,
) -> None:
    """Show what a project has and may have; with options, let it have so much: a number, or `none` for no limit."""
    given = {"stored_bytes": stored_bytes, "running_jobs": running_jobs, "queued_jobs": queued_jobs}
    db = _database(data_dir)
    store_quotas.set_limits(
        db,
        project_id,
        {name: _limit(given[name]) for name in store_quotas.QUOTAS if given[name] is not None},
    )
    for name, use in store_quotas.usage(db, project_id).items():
        typer.echo(f"{name:<12}  {use.used:,} of {'any number' if use.limit is None else f'{use.limit:,}'}")


def _limit(word: str | None) -> int | None:
    if word == "none":
        return None
    if word is None or not word.isdecimal() or int(word) >= 2**63:
        raise typer.BadParameter(f"{word!r} is no limit: give a whole number, or `none`")
    return int(word)


def _moment(seconds: float | None) -> str:
    return "never" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


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
