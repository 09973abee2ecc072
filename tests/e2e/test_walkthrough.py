"""docs/walkthrough.md: its blocks run as printed, in one shell, against a real service, and print what it shows."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.service import running_service

PAGE = (Path(__file__).parents[2] / "docs" / "walkthrough.md").read_text()
BLOCKS = re.findall(r"^```(bash|text|json)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
END_OF_BLOCK = "\x1e"
PATIENCE_SECONDS = 240


def steps() -> list[tuple[str, str]]:
    """Each shell block with the answer that the page shows below it: none where it says nothing."""
    found: list[tuple[str, str]] = []
    for language, content in BLOCKS:
        if language == "bash":
            found.append((content, ""))
        else:
            assert found[-1][1] == "", f"two answers to one block: {content}"
            found[-1] = (found[-1][0], content)
    return found


@pytest.mark.slow
def test_the_blocks_print_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (start,) = re.findall(r"^\$ (ABDISTILL_.*) make up$", PAGE, re.MULTILINE)
    for setting in start.split():
        monkeypatch.setenv(*setting.split("=", 1))
    folder = tmp_path / "empty"
    folder.mkdir()
    script = "".join(f"{block}printf '{END_OF_BLOCK}'\n" for block, _ in steps())
    with running_service(tmp_path / "service", tmp_path / "service.log") as client:
        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=folder,
            env=os.environ
            | {
                "ABDISTILL_URL": client.base_url,
                "ABDISTILL_API_KEY": (tmp_path / "service" / "api-key").read_text().strip(),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
    printed = shell.stdout.split(END_OF_BLOCK)
    checker, as_shown = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for (block, shown), answer in zip(steps(), printed, strict=False):
        example = doctest.Example(block, shown)
        told = checker.output_difference(example, answer, as_shown) + shell.stderr
        assert checker.check_output(example.want, answer, as_shown), f"{block}\n{told}"
    assert shell.returncode == 0, shell.stderr
    assert len(printed) == len(steps()) + 1
