"""Files of the teacher's answers that another worker has, and that may come while the run goes on."""

import time
from collections.abc import Callable
from pathlib import Path

from abcore.progress import Stopped
from abcore.row_files import RowFile

LOOK_SECONDS = 0.05

PATIENCE_SECONDS = 60.0
"""Longest time that a run waits for files of others, all its waits together: then it had better ask its teacher."""


class Coming:
    """What the list `shared-answers` of the workspace names; without that list there is nothing to wait for.

    Whoever laid out the workspace puts a file that was asked for into its place, and only then strikes its name off.
    """

    def __init__(self, listed: Path, should_stop: Callable[[], bool]) -> None:
        self._listed = listed
        self._should_stop = should_stop
        self._patience = PATIENCE_SECONDS

    def names(self) -> frozenset[str]:
        """Return the names of files that can be had, or are on their way."""
        try:
            return frozenset(self._listed.read_text().split())
        except FileNotFoundError:
            return frozenset()

    def wait_for(self, file: RowFile) -> bool:
        """Wait as long as a file may still come and patience lasts; return whether it is there.

        Raises:
            Stopped: the run was asked to stop.
        """
        while not file.exists and self._patience > 0 and file.path.name in self.names():
            if self._should_stop():
                raise Stopped
            began = time.monotonic()
            time.sleep(LOOK_SECONDS)
            self._patience -= time.monotonic() - began
        return file.exists
