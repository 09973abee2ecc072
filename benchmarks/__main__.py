"""`python -m benchmarks` (`make bench`): every figure of the service's speed again, into `benchmarks/results/`."""

import argparse
import json
import platform
from pathlib import Path

import torch

from benchmarks import reuse, step

RESULTS = Path(__file__).with_name("results")


def main() -> None:
    """Measure, print, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how often each thing is timed (default: 20)")
    rounds: int = parser.parse_args().rounds
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()}
    for name, measure in {"step": step.measure, "reuse": reuse.measure}.items():
        figures = {**measure(rounds), **machine}
        (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n")
        print(f"{name}: {json.dumps(figures, indent=2)}")


if __name__ == "__main__":
    main()
