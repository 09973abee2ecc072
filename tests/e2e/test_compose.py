"""docker-compose.yml, read by the real docker-compose where it is installed."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BESIDE_PYTHON = Path(sys.executable).with_name("docker-compose")
COMPOSE = str(BESIDE_PYTHON) if BESIDE_PYTHON.exists() else shutil.which("docker-compose")

pytestmark = pytest.mark.skipif(COMPOSE is None, reason="docker-compose is not installed")


def compose(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("ABDISTILL_", "POSTGRES_"))
    }
    return subprocess.run(
        [str(COMPOSE), *arguments],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    answer = compose("config", "--format", "json", POSTGRES_PASSWORD="secret-of-the-test")
    assert answer.returncode == 0, answer.stderr
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def test_no_password_is_made_up() -> None:
    refused = compose("config", "--quiet")
    assert refused.returncode != 0
    assert "set POSTGRES_PASSWORD to a secret of your own" in refused.stderr


def test_nothing_starts_before_what_it_needs(config: dict[str, Any]) -> None:
    needs = {
        name: {need: rule["condition"] for need, rule in service.get("depends_on", {}).items()}
        for name, service in config["services"].items()
    }
    assert needs["migrate"] == {"postgres": "service_healthy"}
    for name in ("api", "worker"):
        assert needs[name] == {"migrate": "service_completed_successfully", "valkey": "service_healthy"}


def test_all_of_ours_agree_on_where_things_are_and_run_with_little(config: dict[str, Any]) -> None:
    ours = {name: config["services"][name] for name in ("api", "migrate", "worker")}
    for variable in ("ABDISTILL_DATABASE_URL", "ABDISTILL_BROKER_URL"):
        assert len({service["environment"][variable] for service in ours.values()}) == 1
    for service in ours.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert {"type": "volume", "source": "data", "target": "/data", "volume": {}} in service["volumes"]


def test_the_api_is_published_to_this_machine_only(config: dict[str, Any]) -> None:
    (port,) = config["services"]["api"]["ports"]
    assert (port["host_ip"], port["target"]) == ("127.0.0.1", 8420)


def test_the_image_holds_every_package_and_its_user_is_not_root() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {
        line.split()[1] for line in lines if line.startswith("COPY ") and not line.startswith("COPY --")
    }
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]["packages"]
    assert set(packages) <= copied
    kept = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(packages) <= kept
    assert [line for line in lines if line.startswith("USER ")] == ["USER abdistill"]
