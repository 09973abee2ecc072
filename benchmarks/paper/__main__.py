"""The paper's experiments on real data: `python -m benchmarks.paper EXPERIMENT --dataset D --scale S --seeds N`.

EXPERIMENT is one or more of those below, or `all`. Every run is a distillation by the service's own loop. What was run
before, for whatever experiment, is not run again; an interrupted command goes on where it was.
"""

import argparse
import os
from pathlib import Path

from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.material import DATASETS, Material
from benchmarks.paper.plots import plot
from benchmarks.paper.scales import SCALES
from benchmarks.paper.tables import markdown, write_summary
from benchmarks.paper.trials import plan, run_all, write

RESULTS = Path(__file__).parents[1] / "results" / "paper"


def main(arguments: list[str] | None = None) -> None:
    """Run experiments; leave of each a CSV of its runs, a summary, a table and a plot."""
    asked = _parser().parse_args(arguments)
    scale = SCALES[asked.scale]
    folder: Path = asked.out / f"{asked.dataset}-{asked.scale}"
    material = Material(asked.dataset, asked.data, scale, folder / "material")
    names = list(EXPERIMENTS) if "all" in asked.experiments else asked.experiments
    planned = [
        plan(name, trial, scale, material)
        for name in names
        for seed in range(asked.seeds)
        for trial in EXPERIMENTS[name].trials(scale, seed)
    ]
    rows = run_all(planned, folder / "runs.csv", num_processes=asked.processes)
    for name in names:
        experiment, of_experiment = EXPERIMENTS[name], [row for row in rows if row["experiment"] == name]
        write(folder / f"{name}.csv", of_experiment)
        write_summary(of_experiment, experiment, folder / f"{name}-summary.csv")
        table = markdown(of_experiment, experiment)
        (folder / f"{name}.md").write_text(table + "\n")
        plot(of_experiment, experiment, folder / f"{name}.svg")
        print(f"\n{experiment.title}, {asked.dataset}, scale {asked.scale}, {asked.seeds} seeds\n\n{table}")
    print(f"\n{folder}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.paper",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiments",
        nargs="+",
        metavar="EXPERIMENT",
        choices=[*EXPERIMENTS, "all"],
        help=", ".join([*EXPERIMENTS, "all"]),
    )
    parser.add_argument("--dataset", choices=DATASETS, default="fashion-mnist")
    parser.add_argument(
        "--data",
        type=Path,
        help="folder with the dataset's own files: Fashion-MNIST's four idx files, or CIFAR-10's",
    )
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each kind (default: 3)")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time, a thread each")
    parser.add_argument("--out", type=Path, default=RESULTS, help=f"default: {RESULTS}")
    return parser


if __name__ == "__main__":
    main()
