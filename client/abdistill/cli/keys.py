"""`abdistill keys`."""

from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from abdistill.cli.rendering import age, print_fields, print_json
from abdistill.cli.session import JsonOption, client_of, out
from abdistill.keys import Key

keys = typer.Typer(no_args_is_help=True, help="Who may ask, in the project of your key (scope admin).")
DAY_SECONDS = 86400


@keys.command()
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Who or what will use it.")],
    scopes: Annotated[
        list[str], typer.Option("--scope", help="read, submit, admin; may be given several times.")
    ],
    days: Annotated[
        int | None, typer.Option(min=1, max=36500, help="It expires after so many days.  [default: never]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is printed this once."""
    lifetime = None if days is None else days * DAY_SECONDS
    _show(client_of(context).keys.create(name, scopes, lifetime_seconds=lifetime), as_json=as_json)


@keys.command("list")
def list_keys(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, help="Show at most this many, newest first.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Keys, newest first, the revoked ones too."""
    found = list(islice(client_of(context).keys, limit))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "name", "scopes", "secret", "created", "last used", "good"):
        table.add_column(heading, overflow="fold")
    for key in found:
        used = age(key.last_used_at) if key.last_used_at else "never"
        table.add_row(
            key.id,
            escape(key.name),
            ", ".join(key.scopes),
            f"...{key.hint}",
            age(key.created_at),
            used,
            _good(key),
        )
    out.print(table)


@keys.command()
def revoke(context: typer.Context, key_id: str) -> None:
    """Make a key worthless from the next request on."""
    client_of(context).keys.revoke(key_id)


@keys.command()
def rotate(
    context: typer.Context,
    key_id: str,
    grace: Annotated[
        int, typer.Option(min=0, metavar="SECONDS", help="The secret before opens too for so long.")
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret, printed this once."""
    _show(client_of(context).keys.rotate(key_id, grace_seconds=grace), as_json=as_json)


def _show(key: Key, *, as_json: bool) -> None:
    if as_json:
        print_json(key)
        return
    print_fields(
        {
            "id": key.id,
            "name": key.name,
            "scopes": ", ".join(key.scopes),
            "good": _good(key),
            "secret": key.secret,
        }
    )


def _good(key: Key) -> str:
    if key.revoked_at:
        return "revoked"
    return f"until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else "until it is revoked"
