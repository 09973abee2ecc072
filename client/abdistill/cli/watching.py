"""A job on a terminal: a bar for each phase, with the newest figures; events as lines above them."""

from collections.abc import Iterable

from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from abdistill.cli.session import err
from abdistill.models import Event, Job
from abdistill.news import Update

LEVEL_COLOURS = {"warning": "yellow", "error": "red"}
QUIET_EVENTS = frozenset({"checkpoint.saved"})  # every few seconds, and nothing to do about it
SHOWN_LOG_LINES = 5


def show_updates(updates: Iterable[Update]) -> Job:
    """Draw the updates of `client.jobs.watch` as they come; returns the job as it ended."""
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    job: Job | None = None
    with Progress(*columns, console=err) as progress:
        bars = _Bars(progress)
        for update in updates:
            job = update.job
            for event in update.events:
                bars.note(event)
            bars.draw(update)
    assert job is not None
    return job


class _Bars:
    """One bar a phase, made when the phase starts."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._epochs: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        self._finished: set[str] = set()
        self._waiting: TaskID | None = None

    def note(self, event: Event) -> None:
        """Print an event; a phase's start and end also move its bar."""
        if event.type not in QUIET_EVENTS:
            colour = LEVEL_COLOURS.get(event.level, "dim")
            self._progress.console.print(f"[{colour}]{event.time:%H:%M:%S} {escape(event.message)}[/]")
            for line in str(event.data.get("log_tail") or "").splitlines()[-SHOWN_LOG_LINES:]:
                self._progress.console.print(f"    {line}", markup=False)
        phase = str(event.data.get("phase"))
        if event.type == "phase.started":
            self._epochs[phase] = int(event.data["epochs"])
            self._steps[phase] = self._epochs[phase] * int(event.data["steps_per_epoch"])
            if phase not in self._tasks:
                self._tasks[phase] = self._progress.add_task(phase, total=self._steps[phase], figures="")
        elif event.type == "phase.finished" and phase in self._tasks:
            self._progress.update(self._tasks[phase], completed=self._steps[phase])
            self._finished.add(phase)

    def draw(self, update: Update) -> None:
        """Move the current phase's bar, or say what the job waits for."""
        job = update.job
        if job.state == "queued" and self._waiting is None:
            self._waiting = self._progress.add_task(
                "queued", total=None, figures=escape(job.state_reason or "")
            )
        elif job.state != "queued" and self._waiting is not None:
            self._progress.remove_task(self._waiting)
            self._waiting = None
        for phase, task in self._tasks.items():
            figures = _figures(update, phase, self._epochs[phase])
            self._progress.update(task, figures=figures)
            if phase == job.phase and job.step is not None and phase not in self._finished:
                self._progress.update(task, completed=job.step)


def _figures(update: Update, phase: str, epochs: int) -> str:
    job = update.job
    parts = [f"{name} {text}" for name, text in _key_figures(job, update.latest(phase)).items()]
    if phase == job.phase and not job.ended:
        if job.epoch is not None:
            parts.insert(0, f"epoch {min(job.epoch + 1, epochs)}/{epochs}")
        if job.images_per_second:
            parts.append(f"{job.images_per_second:,.0f} images/s")
        if job.eta_seconds is not None:
            parts.append(f"{job.eta_seconds:.0f} s left")
    return "  ".join(parts)


def _key_figures(job: Job, latest: dict[str, float]) -> dict[str, str]:
    """The few of a phase's figures that a person follows; similarity is that of the deepest tap."""
    shown = {}
    if "loss" in latest:
        shown["loss"] = f"{latest['loss']:.4g}"
    if "eval/top1" in latest:
        shown["top-1"] = f"{latest['eval/top1']:.2%}"
    deepest = job.plan.pairs[-1].teacher.name if job.plan and job.plan.pairs else None
    similarity = latest.get(f"boundary_similarity/{deepest}")
    if similarity is not None:
        shown["similarity"] = f"{similarity:.1%}"
    return shown
