"""`python -m benchmarks [NAME...]` (`make bench`): figures of the service's speed again, into `benchmarks/results/`.

`python docs/performance_page.py` then puts them into docs/performance.md, each beside its target.
"""

import argparse
import json
import platform
from pathlib import Path

import torch

from benchmarks import requests, reuse, service, step, tables, uploads

RESULTS = Path(__file__).with_name("results")
MEASURES = {
    "step": step.measure,
    "reuse": reuse.measure,
    "requests": requests.measure,
    "tables": tables.measure,
    "service": service.measure,
    "uploads": uploads.measure,
}


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}; all by default")
    parser.add_argument("--rounds", type=int, default=20, help="how often each thing is timed (default: 20)")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(MEASURES):
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
    }
    for name in asked.names or MEASURES:
        figures = {**MEASURES[name](asked.rounds), **machine}
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(f"{name}: {json.dumps(figures, indent=2)}", flush=True)


if __name__ == "__main__":
    main()
