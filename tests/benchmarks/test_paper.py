"""The paper's experiments at their smallest: every run is a real distillation, and none is made twice."""

import csv
import statistics
from pathlib import Path

import pytest

from benchmarks.paper.__main__ import main
from benchmarks.paper.arms import FINETUNE, TRANSFER, recipe
from benchmarks.paper.experiments import EXPERIMENTS
from benchmarks.paper.scales import SCALES
from benchmarks.paper.trials import COLUMNS

SMOKE = ("--dataset", "digits", "--scale", "smoke", "--processes", "2", "--seeds")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_an_experiment_leaves_runs_a_summary_and_a_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", str(tmp_path))
    main(["losses", *SMOKE, "2", *out])
    folder = tmp_path / "digits-smoke"
    runs = rows(folder / "runs.csv")
    assert len(runs) == 8
    assert set(runs[0]) == set(COLUMNS)
    assert {row["arm"] for row in runs} == {"ab", "l2", "l1", "l0.5"}
    of_ab = [float(row["top1"]) for row in runs if row["arm"] == "ab"]
    assert sorted(map(str, rows(folder / "losses.csv"))) == sorted(map(str, runs))
    summary = {(row["figure"], row["arm"]): row for row in rows(folder / "losses-summary.csv")}
    assert float(summary["top1", "ab"]["mean"]) == pytest.approx(100 * statistics.mean(of_ab), abs=1e-3)
    deviation = float(summary["similarity", "l1"]["standard_deviation"])
    of_l1 = [float(row["similarity"]) for row in runs if row["arm"] == "l1"]
    assert deviation == pytest.approx(100 * statistics.stdev(of_l1), abs=1e-3)
    assert "Losses" in (folder / "losses.svg").read_text()
    # Another experiment's runs are its own; those of `losses` are kept, and its arm `ab` is not run again.
    capsys.readouterr()
    main(["margin", *SMOKE, "2", *out])
    assert "top-1" not in capsys.readouterr().out.partition("\nMargin")[0]
    assert rows(folder / "runs.csv") == runs


def test_another_label_set_has_half_the_classes(tmp_path: Path) -> None:
    main(["transfer-learning", *SMOKE, "1", "--out", str(tmp_path)])
    runs = rows(tmp_path / "digits-smoke" / "runs.csv")
    assert [row["arm"] for row in runs if row["teacher_top1"]] == []  # their answers cannot be compared
    assert {"cross-entropy", "ab", "ab + DTL"} <= {row["arm"] for row in runs}


@pytest.mark.parametrize("name", list(SCALES))
def test_all_arms_of_a_comparison_see_as_many_images(name: str) -> None:
    scale = SCALES[name]
    for arm in ("cross-entropy", *TRANSFER, *FINETUNE):
        fields = recipe(scale, arm, seed=0)
        phases = [fields[phase] for phase in ("transfer", "finetune") if fields[phase]]
        assert sum(phase["epochs"] for phase in phases) == scale.epochs
        assert {phase["batch_size"] for phase in phases} == {scale.batch_size}
    for experiment in EXPERIMENTS.values():
        assert list(experiment.trials(scale, 0))
