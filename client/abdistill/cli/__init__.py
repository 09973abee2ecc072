"""The command `abdistill`.

- `session`     the client, the streams, errors and exit codes
- `uploads`     teachers and datasets         `jobs`      submit, presets, list, show, watch, cancel; download
- `news`        events, metrics, follow; logs `sweeps`    sweeps and comparisons
- `webhooks`    who is told of what happens   `usage`     what a project has, and may have
- `keys`        who may ask                   `predictions`   images shown to a student
- `parsing`     words into specs              `rendering`, `transfers`, `watching`   answers and progress on a terminal
"""

from importlib.metadata import version
from typing import Annotated

import typer

from abdistill.cli import jobs, keys, news, predictions, sweeps, uploads, usage, webhooks
from abdistill.cli.session import EXIT_CODES, App, out
from abdistill.client import DEFAULT_URL

app = App(
    name="abdistill",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Distil networks on an abdistill service: upload a teacher and a dataset, submit a job, fetch the student.",
    epilog=EXIT_CODES,
)
app.add_typer(uploads.teachers, name="teachers")
app.add_typer(uploads.datasets, name="datasets")
app.add_typer(jobs.jobs, name="jobs")
jobs.jobs.command("events")(news.events)
jobs.jobs.command("metrics")(news.metrics)
jobs.jobs.command("follow")(news.follow)
app.add_typer(sweeps.sweeps, name="sweeps")
app.add_typer(webhooks.webhooks, name="webhooks")
app.add_typer(keys.keys, name="keys")
app.command("download")(jobs.download)
app.command("predict")(predictions.predict)
app.command("logs")(news.logs)
app.command("compare")(sweeps.compare)
app.command("usage")(usage.usage)


def _print_version(asked: bool) -> None:
    if asked:
        out.print(version("abdistill"))
        raise typer.Exit


@app.callback()
def connection(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="ABDISTILL_URL", help="Where the service is.")] = DEFAULT_URL,
    api_key: Annotated[
        str | None, typer.Option(envvar="ABDISTILL_API_KEY", help="The key that `abdistill-server` printed.")
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keep what the options before the command say for the command."""
    context.obj = {"url": url, "api_key": api_key}
