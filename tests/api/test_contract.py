"""Schemathesis, which sends what the OpenAPI document allows and what it does not, finds no answer wrong.

All its checks: no 5xx, no status, header, media type or body that the document does not have, no wrong value accepted
and no right one refused, no key that is not asked for, nothing found after it was deleted.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def tried(service: Any, *options: str) -> str:
    """What schemathesis says when it has found nothing."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(ROOT / "schemathesis.toml")),
        *("run", f"{service.url}/openapi.json", "--checks", "all", "--seed", "1", "--request-timeout", "60"),
        # How long an answer takes says how busy this machine is.
        *("--max-response-time", "3600", "--no-color", "--warnings", "off", *options),
    ]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout[-10_000:] + told.stderr[-2000:]
    return told.stdout


def figure(pattern: str, told: str) -> int:
    """A number that it says."""
    return int(re.findall(pattern, told)[0])


def test_the_service_does_what_the_examples_of_its_document_say(service: Any) -> None:
    told = tried(
        service,
        *("--phases", "examples", "-H", f"Authorization: Bearer {service.key}"),
        # Builds networks, and so takes as long as all the others.
        *("--exclude-operation-id", "describe_architecture"),
    )
    assert figure(r"Tested: (\d+)", told) > 40


@pytest.mark.slow
@pytest.mark.parametrize("with_key", [True, False], ids=["with a key", "without"])
def test_the_service_does_what_its_document_says(
    service: Any, with_key: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ("-H", f"Authorization: Bearer {service.key}") if with_key else ()
    told = tried(service, "--phases", "examples,coverage,fuzzing,stateful", *key)
    operations, cases = figure(r"Tested: (\d+)", told), figure(r"generated, (\d+) passed", told)
    with capsys.disabled():
        print(
            f"\n{operations} operations, {cases} cases {'with a key' if with_key else 'without'}: 0 failures"
        )
    assert operations == figure(r"Selected: (\d+)", told)
