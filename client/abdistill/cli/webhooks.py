"""`abdistill webhooks`."""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from abdistill.cli.rendering import age, print_fields, print_json, state
from abdistill.cli.session import JsonOption, client_of, out
from abdistill.hooks import Delivery, Webhook

webhooks = typer.Typer(no_args_is_help=True, help="Addresses that are told of changes of state.")

Description = Annotated[str | None, typer.Option(help="What it is for.")]
Limit = Annotated[int, typer.Option(min=1, max=100, help="Show at most this many, newest first.")]


@webhooks.command()
def add(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="https://... on the public internet.")],
    events: Annotated[
        list[str],
        typer.Option("--event", help="job.succeeded, teacher.ready ...; may be given several times."),
    ],
    description: Description = None,
    as_json: JsonOption = False,
) -> None:
    """Have an address told of events. The secret that signs them is printed this once."""
    if not events:
        raise typer.BadParameter(
            "say which events it shall be told: --event job.succeeded --event job.failed"
        )
    _show(client_of(context).webhooks.create(url, events, description=description), as_json=as_json)


@webhooks.command("list")
def list_webhooks(context: typer.Context, limit: Limit = 20, as_json: JsonOption = False) -> None:
    """Webhooks, newest first."""
    found = list(islice(client_of(context).webhooks, limit))
    if as_json:
        print_json(found)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "address", "enabled", "events"):
        table.add_column(heading, overflow="fold")  # an address that is cut off cannot be used
    for hook in found:
        table.add_row(hook.id, escape(hook.url), "yes" if hook.enabled else "no", ", ".join(hook.events))
    out.print(table)


@webhooks.command()
def show(context: typer.Context, webhook_id: str, as_json: JsonOption = False) -> None:
    """One webhook."""
    _show(client_of(context).webhooks.get(webhook_id), as_json=as_json)


@webhooks.command()
def update(
    context: typer.Context,
    webhook_id: str,
    url: Annotated[str | None, typer.Option(help="Where to send from now on.")] = None,
    events: Annotated[
        list[str] | None,
        typer.Option("--event", help="In place of those before; may be given several times."),
    ] = None,
    description: Description = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Tell it or not.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a webhook's address or events (those given replace all), or switch it off and on."""
    changed = client_of(context).webhooks.update(
        webhook_id, url=url, events=events or None, description=description, enabled=enabled
    )
    _show(changed, as_json=as_json)


@webhooks.command()
def delete(context: typer.Context, webhook_id: str) -> None:
    """Delete a webhook with its log."""
    client_of(context).webhooks.delete(webhook_id)


@webhooks.command("rotate-secret")
def rotate_secret(
    context: typer.Context,
    webhook_id: str,
    overlap: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="SECONDS", help="The old secret signs too for so long.  [default: a day]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Give a webhook a new secret, printed this once; the old one signs too for a while."""
    _show(client_of(context).webhooks.rotate_secret(webhook_id, overlap_seconds=overlap), as_json=as_json)


@webhooks.command("test")
def send_test(context: typer.Context, webhook_id: str, as_json: JsonOption = False) -> None:
    """Have a test event sent; `abdistill webhooks deliveries` tells what came of it."""
    _show_delivery(client_of(context).webhooks.test(webhook_id), as_json=as_json)


@webhooks.command()
def deliveries(
    context: typer.Context, webhook_id: str, limit: Limit = 20, as_json: JsonOption = False
) -> None:
    """What a webhook was told or is to be told, newest first, and what came of it."""
    found = client_of(context).webhooks.deliveries(webhook_id, limit=limit).data
    if as_json:
        print_json(found)
    else:
        _print_deliveries(found)


@webhooks.command()
def redeliver(context: typer.Context, webhook_id: str, delivery_id: str, as_json: JsonOption = False) -> None:
    """Have an event sent again, now."""
    _show_delivery(client_of(context).webhooks.redeliver(webhook_id, delivery_id), as_json=as_json)


def _show(hook: Webhook, *, as_json: bool) -> None:
    if as_json:
        print_json(hook)
        return
    print_fields(
        {
            "id": hook.id,
            "address": hook.url,
            "events": ", ".join(hook.events),
            "description": hook.description,
            "enabled": "yes" if hook.enabled else f"no: {hook.disabled_reason}",
            "old secrets until": ", ".join(map(_moment, hook.old_secrets_until)) or None,
            "secret": hook.secret,
        }
    )


def _show_delivery(one: Delivery, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        _print_deliveries([one])


def _print_deliveries(found: Sequence[Delivery]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("id", "event", "state", "attempts", "created", "next attempt", ""):
        table.add_column(heading)
    for one in found:
        table.add_row(
            one.id,
            one.type,
            state(one.state),
            str(one.attempts),
            age(one.created_at),
            _moment(one.next_attempt_at) if one.next_attempt_at else "",
            escape(one.error or ""),
        )
    out.print(table)


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
