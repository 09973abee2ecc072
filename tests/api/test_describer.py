"""The pool that answers questions to torch: warm, bounded, and alive again after every death."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from abcore.specs.architectures import ModelSpec
from api import asked_process, describer
from api.asked_process import TorchUnavailable
from api.describer import Describer

MODEL: dict[str, Any] = {
    "architecture": {"arch": "wide_resnet", "depth": 16, "width": 2},
    "image": {"channels": 3, "height": 32, "width": 32},
    "num_classes": 10,
}


def model(num_classes: int = 10) -> ModelSpec:
    return ModelSpec.model_validate(MODEL | {"num_classes": num_classes})


@asynccontextmanager
async def pool() -> AsyncIterator[Describer]:
    pool = Describer()
    try:
        yield pool
    finally:
        await asyncio.to_thread(pool.close)


def test_a_network_is_described_over_http(client: httpx.Client) -> None:
    answer = client.post("/v1/architectures/describe", json=MODEL)
    assert answer.status_code == 200
    described = answer.json()
    assert described["num_parameters"] == 691_674  # as published for WRN-16-2
    assert [tap["channels"] for tap in described["taps"]] == [32, 64, 128]


def test_a_killed_child_costs_no_request(service: Any) -> None:
    """Each of the children is killed, while it idles; whoever asks next gets an answer from a new one."""
    path, pool = "/v1/architectures/describe", service.app.state.context.describer
    assert service.client.post(path, json=MODEL).status_code == 200
    victims = pool.pids
    assert victims
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert service.client.post(path, json=MODEL).status_code == 200
    assert pool.pids
    assert not set(pool.pids) & set(victims)
    assert service.client.get("/readyz").json()["parts"]["describer"] == "ok"


def test_what_cannot_be_built_is_refused_by_field(client: httpx.Client, refusal: Callable[..., Any]) -> None:
    body = MODEL | {"architecture": {"arch": "torchvision", "name": "resnet17"}}
    problem = refusal(client.post("/v1/architectures/describe", json=body), 422)
    assert problem["where"] == "architecture.name"
    assert problem["value"] == "resnet17"
    assert "resnet18" in problem["allowed"]


def test_a_child_that_dies_over_a_question_is_asked_anew_and_one_that_hangs_is_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        async with pool() as asked:
            await asked.describe(model())
            (first,) = asked.pids
            os.kill(first, signal.SIGSTOP)
            frozen = asyncio.create_task(asked.describe(model(11)))
            await asyncio.to_thread(lambda: None)
            os.kill(first, signal.SIGKILL)
            assert (await frozen).spec.num_classes == 11

            (second,) = asked.pids
            monkeypatch.setattr(asked_process, "ANSWER_SECONDS", 0.2)
            os.kill(second, signal.SIGSTOP)
            with pytest.raises(TorchUnavailable, match="longer than"):
                await asked.describe(model(12))
            monkeypatch.setattr(asked_process, "ANSWER_SECONDS", 60.0)
            assert second not in asked.pids
            assert (await asked.describe(model(12))).spec.num_classes == 12

    asyncio.run(scenario())


def test_the_queue_is_bounded_and_the_same_question_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describer, "MOST_OPEN_QUESTIONS", 2)

    async def scenario() -> None:
        async with pool() as asked:
            same = [asyncio.create_task(asked.describe(model())) for _ in range(50)]
            other = asyncio.create_task(asked.describe(model(11)))
            await asyncio.sleep(0)
            with pytest.raises(TorchUnavailable, match="Too many"):
                await asked.describe(model(12))
            answers = await asyncio.gather(*same)
            assert {one.num_parameters for one in answers} == {691_674}
            assert (await other).spec.num_classes == 11
            assert (await asked.describe(model(12))).spec.num_classes == 12  # there is room again

    asyncio.run(scenario())


def test_one_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    async def scenario() -> None:
        async with pool() as asked:
            leaving, staying = (asyncio.create_task(asked.describe(model())) for _ in range(2))
            await asyncio.sleep(0)
            leaving.cancel()
            assert (await staying).num_parameters == 691_674
            assert leaving.cancelled()

    asyncio.run(scenario())


def test_closing_while_a_child_starts_leaves_no_process() -> None:
    async def scenario() -> list[int]:
        async with pool() as asked:
            asked.start()
            while not asked.pids:
                await asyncio.sleep(0.01)
            return asked.pids

    for pid in asyncio.run(scenario()):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_is_killed_leaves_no_describer_though_it_cannot_read_its_end() -> None:
    """Frozen, as it would be deaf while it imports torch."""
    code = """
import time
from api.describer import Describer
pool = Describer()
pool.start()
while not pool.pids:
    time.sleep(0.01)
print(*pool.pids, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, signal.SIGSTOP)
        parent.kill()
    deadline = time.monotonic() + 60.0
    while _lives(pid):
        assert time.monotonic() < deadline, "the describer outlives its parent"
        time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
