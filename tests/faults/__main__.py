"""`python -m faults`: break the service for a while, then hold what is left against what was promised."""

import argparse
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from faults.checker import Reference, Verdict, check, job_counts, reference_of
from faults.grounds import GROUNDS
from faults.kinds import KINDS, Kind
from faults.service import RECIPES, Service
from store.janitor import clean

NUM_USERS = 4
JOBS_IN_THE_QUEUE = 12
PAUSE_SECONDS = {"workers": (4.5, 8.5), "front": (4.5, 8.5), "ground": (2.3, 5.0), "clock": (15.0, 30.0)}
"""Between two faults of one place: 300 in about twelve minutes. Denser ones leave jobs no time to get further, and then
little is tried but starts."""


class Storm:
    """Faults in all places at once, and jobs without end, until there were enough of both."""

    def __init__(self, service: Service, seed: int, num_jobs: int, num_faults: int, until: float) -> None:
        self.hits: Counter[str] = Counter()
        self._service = service
        self._seed = seed
        self._num_jobs, self._num_faults, self._until = num_jobs, num_faults, until
        self._over = threading.Event()
        self._broken: list[BaseException] = []

    def rage(self) -> None:
        """Return when there were enough; raise what went wrong with the storm itself."""
        places = sorted({kind.place for kind in KINDS})
        threads = [
            threading.Thread(target=self._guarded, args=(what,))
            for what in (
                *(partial(self._break_things, place) for place in places),
                *(partial(self._use, user) for user in range(NUM_USERS)),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._is_enough():
                self._service.hurry()
                time.sleep(0.2)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._broken:
            raise self._broken[0]

    def _use(self, user: int) -> None:
        """Be a user: ask for more whenever the queue is short."""
        random = Random(f"{self._seed} user {user}")
        while not self._over.wait(0.1):
            if self._service.unended() < JOBS_IN_THE_QUEUE:
                self._ask(random)

    def _ask(self, random: Random) -> None:
        """For a distillation, for one that is then cancelled, or for a dataset's verification."""
        recipe = random.randrange(len(RECIPES))
        match random.randrange(3):
            case 0:
                self._service.submit(recipe)
            case 1:
                self._service.submit_and_cancel(recipe)
            case 2:
                self._service.upload_another(random)

    def _is_enough(self) -> bool:
        num_jobs = len(self._service.asked) + len(self._service.uploads)
        enough = num_jobs >= self._num_jobs and self.hits.total() >= self._num_faults
        return enough or time.monotonic() > self._until or bool(self._broken)

    def _guarded(self, do: Callable[[], None]) -> None:
        try:
            do()
        except BaseException as error:
            self._broken.append(error)

    def _break_things(self, place: str) -> None:
        random = Random(f"{self._seed} {place}")
        kinds = [kind for kind in KINDS if kind.place == place and kind.applies(self._service)]
        order: list[Kind] = []
        while not self._over.wait(random.uniform(*PAUSE_SECONDS[place])):
            if not order:
                order = random.sample(kinds, len(kinds))
            kind = order.pop()
            if kind.do(self._service, random):
                self.hits[kind.name] += 1


def main() -> int:
    """Return 0 if all promises were kept on all grounds."""
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    parser.add_argument("--grounds", nargs="+", choices=GROUNDS, default=list(GROUNDS))
    parser.add_argument("--jobs", type=int, default=300, help="at least so many on each ground")
    parser.add_argument("--faults", type=int, default=300, help="at least so many on each ground")
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="longest time on each ground; fewer of both then"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if len(options.grounds) == 1:
        return 0 if run(options.grounds[0], options) else 1
    return _side_by_side(options.grounds, sys.argv[1:])


def _side_by_side(grounds: list[str], arguments: list[str]) -> int:
    """A process for each ground: while one waits for what is away, another has the machine."""
    command = [sys.executable, "-m", "faults", *arguments, "--grounds"]
    runs = [subprocess.Popen([*command, ground], stdout=subprocess.PIPE, text=True) for ground in grounds]
    for each in runs:
        print(each.communicate()[0], end="", flush=True)
    return int(any(each.returncode for each in runs))


def run(ground_name: str, options: argparse.Namespace) -> bool:
    """Break the service on one ground; print a table; return whether every promise was kept."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="abdistill-faults-") as place:
        folder = Path(place)
        with GROUNDS[ground_name](folder) as ground:
            service = Service(folder, ground)
            try:
                service.start()
                references = _references(service)
                until = time.monotonic() + 60.0 * options.minutes
                storm = Storm(service, options.seed, options.jobs, options.faults, until)
                storm.rage()
                service.drain()
                service.stop()
                clean(
                    service.db,
                    service.blobs,
                    every_seconds=0.0,
                    orphan_seconds=0.0,
                    audit_seconds=86400.0,
                    answers_seconds=86400.0,
                    answers_bytes=2**40,
                )
                verdict = check(
                    service.db,
                    service.blobs,
                    service.asked,
                    service.cancelled,
                    service.uploads,
                    references,
                )
                _report(service, storm, verdict, time.monotonic() - began)
            except BaseException:
                _keep_logs(folder)
                raise
            finally:
                service.end()
            good = not any(verdict.counts().values()) and not service.orphans
            if not good:
                _keep_logs(folder)
            return good


def _references(service: Service) -> dict[int, Reference]:
    """What each recipe gives while nothing is broken."""
    ids = {recipe: service.submit(recipe) for recipe in range(len(RECIPES))}
    service.drain()
    return {recipe: reference_of(service.db, id_) for recipe, id_ in ids.items()}


def _report(service: Service, storm: Storm, verdict: Verdict, seconds: float) -> None:
    console = Console(width=100, soft_wrap=True)
    counted = job_counts(service.db)
    table = Table(title=f"{service.ground.name}: {storm.hits.total()} faults in {seconds / 60:.1f} minutes")
    table.add_column("fault")
    table.add_column("times", justify="right")
    for kind in KINDS:
        if kind.applies(service):
            table.add_row(kind.name, str(storm.hits[kind.name]))
    table.add_section()
    for what, number in counted.items():
        table.add_row(what, str(number))
    table.add_section()
    wrong = verdict.counts() | {"orphan_processes": len(service.orphans)}
    for what, number in wrong.items():
        table.add_row(what.replace("_", " "), str(number), style="red bold" if number else "green")
    console.print(table)
    for name in wrong:
        for sentence in service.orphans if name == "orphan_processes" else getattr(verdict, name):
            console.print(f"{name}: {sentence}", highlight=False)


def _keep_logs(folder: Path) -> None:
    """What went wrong is in the logs of the processes."""
    kept = Path(tempfile.mkdtemp(prefix="abdistill-faults-logs-"))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    print(f"the logs of all processes are in {kept}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
