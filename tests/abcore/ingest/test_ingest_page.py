"""docs/datasets.md: every Python block makes a dataset that is accepted, and of the format of its heading."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[3] / "docs" / "datasets.md").read_text()
BLOCKS = re.findall(r"^## ([^\n]+)\n(?:(?!^## ).)*?```python\n(.*?)```", PAGE, re.S | re.M)
FORMATS = {
    "Class folders": ("imagefolder", ("cat", "dog")),
    "Arrays: `.npz`": ("npz", tuple("0123456789")),
    "WebDataset": ("webdataset", ("class 0", "class 1", "class 2")),
    "Parquet": ("parquet", ("day", "night")),
}


def test_every_format_has_its_example() -> None:
    assert [heading for heading, _ in BLOCKS] == list(FORMATS)


@pytest.mark.parametrize(("heading", "code"), BLOCKS, ids=[heading for heading, _ in BLOCKS])
def test_the_example_is_accepted(
    room: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heading: str, code: str
) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    script = tmp_path / "example.py"
    script.write_text(code)
    runpy.run_path(str(script))
    (made,) = folder.iterdir()
    report = room.accept_dataset(made.read_bytes())
    assert (report.format, report.classes) == FORMATS[heading]
