"""`make demo`'s command, whole: its promises are in its last line."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_demo_keeps_its_promises(tmp_path: Path) -> None:
    mark = f"ABDISTILL_TEST_MARK={uuid.uuid4().hex}"
    environment = (
        dict(os.environ) | dict([mark.split("=")]) | {"DATASET": "", "DATA": "", "PYTHONPATH": str(ROOT)}
    )
    shown = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    figures = json.loads(shown.stdout.splitlines()[-1])
    teacher, distilled, alone = figures["teacher"], figures["distilled"], figures["alone"]
    assert figures["faults"] == []
    assert teacher["test_accuracy"] >= 0.97
    assert distilled["parameters"] <= teacher["parameters"] / 8
    assert distilled["parameters"] == alone["parameters"]
    deepest = distilled["boundary_similarity"][-1]
    assert 0.4 <= deepest["before"] <= 0.6
    assert deepest["after"] >= 0.8
    left = [entry for entry in Path("/proc").glob("[0-9]*/environ") if _holds(entry, mark)]
    assert left == [], "processes were left behind"
    assert not (tmp_path / "demo-output" / "service").exists()


def _holds(environ: Path, mark: str) -> bool:
    try:
        return mark.encode() in environ.read_bytes()
    except OSError:  # it has ended, or is another user's
        return False
