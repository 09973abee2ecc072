"""Images shown to a student: from Python and from the command."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import abdistill
import pytest
from abdistill import Client, ConfigurationError, Conflict, Invalid
from plugins.forge import Forge
from plugins.students import CLASSES, student_file
from pydantic import BaseModel

from api.schemas import predictions

Run = Callable[..., CompletedProcess[str]]
ALONE = {"transfer": None, "finetune": {"epochs": 2, "cross_entropy_weight": 1.0, "kd_weight": 0.0}}


@pytest.fixture
def job(client: Client, backstage: Any, file: Path) -> str:
    """A job that has left a student."""
    dataset = backstage.ready_dataset(client, file)
    made = client.jobs.create(
        dataset=dataset, student={"arch": "wide_resnet", "depth": 10, "width": 1}, recipe=ALONE
    )
    with pytest.raises(Conflict, match="queued"):
        client.jobs.predict(made.id, [Forge().png()])
    backstage.succeed(backstage.claim(), student_file())
    return made.id


@pytest.mark.parametrize(
    ("shown", "known"),
    [
        (predictions.Predictions, abdistill.Predictions),
        (predictions.Prediction, abdistill.Prediction),
        (predictions.PredictedClass, abdistill.PredictedClass),
    ],
)
def test_the_client_knows_every_field_that_is_shown(shown: type[BaseModel], known: type[BaseModel]) -> None:
    assert set(shown.model_fields) - set(known.model_fields) <= {"object"}


def test_files_and_bytes_are_shown_to_the_student(client: Client, job: str, tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    path.write_bytes(Forge().png(1))
    told = client.jobs.predict(job, [path, str(path), Forge().png(1), Forge().png(2)], top=2)
    assert told.job == job
    assert [len(one.classes) for one in told.data] == [2] * 4
    first, second, third, other = (one.classes for one in told.data)
    assert first == second == third != other
    assert first[0].name == CLASSES[first[0].index]
    with pytest.raises(Invalid) as caught:
        client.jobs.predict(job, [path, b"no image"])
    assert [error.where for error in caught.value.problem.errors] == ["images.1"]
    with pytest.raises(ConfigurationError, match=r"missing\.png: No such file"):
        client.jobs.predict(job, [tmp_path / "missing.png"])


def test_the_command_shows_a_table_or_json(client: Client, run_cli: Run, job: str, tmp_path: Path) -> None:
    paths = []
    for number in (1, 2):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(Forge().png(number))
    told = json.loads(run_cli("predict", job, *paths, "--top", "1", "--json").stdout)
    expected = client.jobs.predict(job, paths, top=1)
    assert told == json.loads(expected.model_dump_json())
    shown = run_cli("predict", job, *paths).stdout.splitlines()
    assert len(shown) == 1 + 2 * 3
    assert shown[1].split()[0] == "1.png"
    assert expected.data[0].classes[0].name in shown[1]
    assert f"{expected.data[0].classes[0].probability:.1%}" in shown[1]
    assert run_cli("predict", job, tmp_path / "none.png").returncode == 2
