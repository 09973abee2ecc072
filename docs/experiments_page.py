"""Puts the tables of finished experiments into docs/experiments.md: `python docs/experiments_page.py`.

The sentences of the page are written by hand; what stands between `<!-- table NAME -->` and `<!-- end -->` is computed
from docs/experiments/NAME.csv, every run that `python -m benchmarks.paper NAME` made. With a folder of the command's
results as an argument, its runs and plots are taken over first.
"""

import re
import shutil
import sys
from pathlib import Path

from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.tables import markdown
from benchmarks.paper.trials import read

PAGE = Path(__file__).with_name("experiments.md")
RESULTS = Path(__file__).with_name("experiments")
_TABLE = re.compile(r"(<!-- table ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def page() -> str:
    """The page's text, with the tables that the runs give."""

    def filled(marker: re.Match[str]) -> str:
        name = marker[2]
        table = markdown(read(RESULTS / f"{name}.csv"), EXPERIMENTS[name])
        return f"{marker[1]}\n{table}\n\n{marker[3]}"

    return _TABLE.sub(filled, PAGE.read_text())


def take_over(results: Path) -> None:
    """Copy the runs and plots of a results folder."""
    RESULTS.mkdir(exist_ok=True)
    for name in EXPERIMENTS:
        for suffix in ("csv", "svg"):
            shutil.copy(results / f"{name}.{suffix}", RESULTS)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        take_over(Path(sys.argv[1]))
    PAGE.write_text(page())
