"""Images shown to a finished student over HTTP: its answers, its refusals, and the room in which they are decoded."""

import base64
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hostile.corpus import pictures
from PIL import Image
from plugins.forge import Forge
from plugins.students import CLASSES, finished, student_file
from sklearn.datasets import load_digits
from sqlalchemy import update

from store.models import Artifact

Refusal = Callable[..., dict[str, Any]]


def job_with_student(service: Any, *shape: int) -> str:
    """The id of a job that has left a student for images of (channels, height, width)."""
    job: str = service.submit()["id"]
    lease = service.claim()
    service.succeed(lease, [service.file(lease, "student.safetensors", student_file(*shape))])
    return job


def png(pixels: Any) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def ask(client: httpx.Client, job: str, images: list[bytes], **fields: Any) -> httpx.Response:
    body = {"images": [base64.b64encode(image).decode() for image in images], **fields}
    return client.post(f"/v1/jobs/{job}/predictions", json=body)


def expected(shape: tuple[int, ...], pixels_NHW: Any) -> torch.Tensor:
    """probabilities_NK of the very network, on images of its own size."""
    student = finished(*shape)
    images = torch.from_numpy(pixels_NHW).float()[:, None] / 255
    images = (images - student.normalization.mean[0]) / student.normalization.std[0]
    return student.model(images).softmax(1)


def test_the_answers_are_those_of_the_student(service: Any) -> None:
    job = job_with_student(service, 1, 8, 8)
    pixels = (load_digits().images[:16] * (255 / 16)).round().astype(np.uint8)
    answer = ask(service.client, job, [png(each) for each in pixels], top=10)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    (file,) = service.client.get(f"/v1/jobs/{job}/artifacts").json()["data"]
    assert (told["job"], told["student_sha256"]) == (job, file["sha256"])
    wanted = expected((1, 8, 8), pixels)
    assert len(told["data"]) == 16
    for one, probabilities in zip(told["data"], wanted, strict=True):
        given = [each["probability"] for each in one["classes"]]
        assert given == sorted(given, reverse=True)
        assert given == pytest.approx(probabilities.sort(descending=True).values.tolist(), abs=1e-5)
        assert one["classes"][0]["index"] == int(probabilities.argmax())
        assert all(each["name"] == CLASSES[each["index"]] for each in one["classes"])


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8), (1, 6, 12), (3, 12, 6)])
@pytest.mark.parametrize("size", [(8, 8), (30, 20), (9, 64)])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA"])
def test_an_image_of_another_size_or_colour_is_brought_to_the_students(
    service: Any, shape: tuple[int, int, int], size: tuple[int, int], mode: str
) -> None:
    job = job_with_student(service, *shape)
    answer = ask(service.client, job, [Forge().png(7, size, mode)], top=3)
    assert answer.status_code == 200, answer.text
    (one,) = answer.json()["data"]
    assert len(one["classes"]) == 3


def test_a_job_without_a_student_is_told_its_state(service: Any, refusal: Refusal) -> None:
    job = service.submit()["id"]
    problem = refusal(ask(service.client, job, [Forge().png()]), 409, "conflict")
    assert problem["code"] == "job.not_succeeded"
    assert (problem["where"], problem["value"], problem["allowed"]) == (
        "path.job_id",
        "queued",
        ["succeeded"],
    )


def test_a_student_that_is_too_large_is_not_run(service: Any, refusal: Refusal) -> None:
    job = job_with_student(service)
    with service.db.write() as session:
        session.execute(update(Artifact).where(Artifact.job_id == job).values(size_bytes=2**30 + 1))
    problem = refusal(ask(service.client, job, [Forge().png()]), 409, "conflict")
    assert problem["code"] == "job.student_too_large"
    assert problem["allowed"] == [f"<= {2**30}"]


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"images": []}, "images"),
        ({"images": ["AAAA"] * 17}, "images"),
        ({"images": ["no base64!"]}, "images.0"),
        ({"images": [""]}, "images.0"),
        ({"images": ["AAAA"], "top": 0}, "top"),
        ({}, "images"),
    ],
)
def test_what_is_no_question_is_refused_by_its_field(
    service: Any, refusal: Refusal, body: dict[str, Any], where: str
) -> None:
    job = job_with_student(service)
    answer = service.client.post(f"/v1/jobs/{job}/predictions", json=body)
    assert refusal(answer, 422)["where"] == where


def test_sixteen_mebibytes_of_images_are_the_most(service: Any, refusal: Refusal) -> None:
    job = job_with_student(service)
    noise = np.random.default_rng(0).integers(0, 256, (1800, 2200, 3), dtype=np.uint8)  # 12 MB as a PNG
    assert ask(service.client, job, [png(noise)]).status_code == 200
    problem = refusal(ask(service.client, job, [png(noise), png(noise)]), 413, "too-large")
    assert problem["allowed"] == [f"<= {16 * 2**20} bytes"]


BAD = {
    "text": b"no image",
    "a pixel bomb": pictures._png(60_000, 60_000),
    "cut off": Forge().png(1, (64, 64))[:-300],
    "a wrong sum": Forge().png(1).replace(b"IDAT", b"IDAX"),
    "nothing but a head": b"\x89PNG\r\n\x1a\n",
    "a gif of 65,535 x 65,535": pictures._gif(65_535, 65_535),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_an_image_that_cannot_be_read_is_named_and_costs_nobody_the_process(
    service: Any, refusal: Refusal, bad: bytes
) -> None:
    job = job_with_student(service)
    assert ask(service.client, job, [Forge().png()]).status_code == 200
    pid = service.app.state.context.predictor.pid
    problem = refusal(ask(service.client, job, [Forge().png(), bad]), 422)
    assert (problem["code"], problem["where"]) == ("image.unreadable", "images.1")
    assert "PNG" in problem["allowed"]
    assert ask(service.client, job, [Forge().png()]).status_code == 200
    assert service.app.state.context.predictor.pid == pid


def test_a_process_that_was_killed_is_replaced(service: Any) -> None:
    job = job_with_student(service)
    assert ask(service.client, job, [Forge().png()]).status_code == 200
    pid = service.app.state.context.predictor.pid
    os.kill(pid, signal.SIGKILL)
    assert ask(service.client, job, [Forge().png()]).status_code == 200
    assert service.app.state.context.predictor.pid not in (None, pid)


def test_the_process_holds_no_secret_and_is_confined(service: Any) -> None:
    job = job_with_student(service)
    assert ask(service.client, job, [Forge().png()]).status_code == 200
    proc = Path(f"/proc/{service.app.state.context.predictor.pid}")
    names = {line.partition(b"=")[0] for line in (proc / "environ").read_bytes().split(b"\0")}
    assert not {name for name in names if b"ABDISTILL" in name or b"AWS" in name or b"TOKEN" in name}
    status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert (proc / "ns" / "net").readlink() != Path("/proc/self/ns/net").readlink()


def test_many_at_once_are_answered_or_told_to_come_again(service: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    job = job_with_student(service)
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(lambda _: ask(service.client, job, [Forge().png()]), range(24)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert sum(answer.status_code == 200 for answer in answers) >= 8
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 503)
