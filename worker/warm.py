"""Children that wait for work: what a child does before it knows its job takes seconds, so it is done beforehand."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import leash
from store.leases import Lease
from store.models import Json
from worker.guardian import TRAINING, Guardian
from worker.workspace import Workspace, Workspaces

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where an attempt happens: a workspace, and the child that waits in it, if there is one."""

    workspace: Workspace
    waiting: leash.Leashed | None = None


class WarmChildren:
    """At most one waiting child a slot, each for one job. It has its workspace, surroundings and limits from the start.

    Only what trains is done by them. What reads an untrusted upload gets a child of its own, under limits of its own.
    A slot is used by one thread at a time.
    """

    def __init__(self, guardian: Guardian, workspaces: Workspaces, *, wanted: bool) -> None:
        self._guardian = guardian
        self._workspaces = workspaces
        self._wanted = wanted
        self._places: dict[int, Place] = {}
        self._numbers = count()

    def prepare(self, slot: int) -> None:
        """See to it that a child waits in this slot, or is getting ready to."""
        place = self._places.get(slot)
        if not self._wanted or (place is not None and _lives(place)):
            return
        self._discard(slot)
        workspace = self._workspaces.create(f"slot-{slot}-{next(self._numbers)}")
        try:
            self._places[slot] = Place(workspace, self._guardian.start_waiting(workspace, slot))
        except OSError as error:  # then the job starts one, or fails to and says why
            _log.warning("no child could be started to wait for a job: %s", error)
            self._workspaces.remove(workspace)

    @contextmanager
    def place(self, lease: Lease, slot: int) -> Iterator[Place]:
        """Yield the place of this lease's attempt; afterwards nothing is left of it."""
        place = self._places.pop(slot, None) if lease.job.run["task"] in TRAINING else None
        if place is None or not _lives(place):
            if place is not None:
                self._clear_away(place)
            place = Place(self._workspaces.create(f"{lease.job.id}-{lease.epoch}"))
        try:
            yield place
        finally:
            self._clear_away(place)

    def start(self, place: Place, run: Json, slot: int, memory_halvings: int) -> leash.Leashed:
        """Have the work of a workspace, which is laid out, begin; `memory_halvings` as in `Guardian.start`.

        Raises:
            OSError: a child was needed and could not be started.
        """
        if place.waiting is not None and memory_halvings:
            _end(place.waiting)  # it began before anybody knew how little memory there is
        if place.waiting is None or memory_halvings:
            return self._guardian.start(place.workspace, run, slot, memory_halvings)
        assert place.waiting.stdin is not None
        with suppress(BrokenPipeError):  # it has just died: whoever waits for its end will see
            place.waiting.stdin.write(b"begin\n")
            place.waiting.stdin.flush()
        return place.waiting

    def close(self) -> None:
        """End all that wait."""
        for slot in list(self._places):
            self._discard(slot)

    def _discard(self, slot: int) -> None:
        place = self._places.pop(slot, None)
        if place is not None:
            self._clear_away(place)

    def _clear_away(self, place: Place) -> None:
        if place.waiting is not None:
            _end(place.waiting)
        self._workspaces.remove(place.workspace)


def _end(child: leash.Leashed) -> None:
    child.kill()
    child.wait()
    if child.stdin is not None:
        with suppress(BrokenPipeError):
            child.stdin.close()


def _lives(place: Place) -> bool:
    return place.waiting is not None and place.waiting.wait(0) is None
