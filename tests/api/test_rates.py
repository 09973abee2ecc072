"""How often a key may ask, and how each answer says so."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from api.rates import RateLimiter
from store.keys import create_key
from store.models import DEFAULT_PROJECT
from store.settings import Settings

Refusal = Callable[..., dict[str, Any]]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_is_emptied_at_once_and_fills_up_evenly() -> None:
    clock = Clock()
    rates = RateLimiter(6, clock)
    found = [rates.take("key_1") for _ in range(7)]
    assert [one.remaining for one in found] == [5, 4, 3, 2, 1, 0, 0]
    assert [one.wait_seconds for one in found] == [0] * 6 + [10]
    assert found[0].full_in_seconds == 10
    assert found[-1].full_in_seconds == 60
    assert rates.take("key_2").wait_seconds == 0, "each key has its own"
    clock.now += 9.5
    assert rates.take("key_1").wait_seconds == 1
    clock.now += 0.5
    assert rates.take("key_1").wait_seconds == 0
    assert rates.take("key_1").wait_seconds == 10, "what was refused was not counted"
    clock.now += 3600
    assert rates.take("key_1").remaining == 5


def test_buckets_of_keys_that_are_not_used_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.rates.MOST_BUCKETS", 3)
    clock = Clock()
    rates = RateLimiter(6, clock)
    for number in range(100):
        rates.take(f"key_{number}")
        clock.now += 10
    assert len(rates._buckets) <= 3
    for _ in range(6):
        rates.take("key_busy")
    for number in range(10):
        rates.take(f"key_{number}")
    assert rates.take("key_busy").wait_seconds > 0, "one that is not full is not forgotten"


@pytest.fixture(scope="module")
def strict(serve: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serve(Settings(data_dir=tmp_path_factory.mktemp("strict"), key_requests=5)) as service:
        yield service


def test_every_answer_says_how_many_requests_are_left(strict: Any, refusal: Refusal) -> None:
    _, secret = create_key(strict.db, DEFAULT_PROJECT, "busy")
    with strict.client_of(secret) as client:
        for left, path in zip(
            (4, 3, 2, 1, 0), ("/v1/jobs", "/v1/jobs/job_none", "/v1/jobs?limit=0") * 2, strict=False
        ):
            answer = client.get(path)
            assert answer.status_code in (200, 404, 422)
            assert answer.headers["RateLimit-Policy"] == '"key";q=5;w=60'
            assert re.fullmatch(rf'"key";r={left};t=\d+', answer.headers["RateLimit"])
        answer = client.get("/v1/jobs")
        problem = refusal(answer, 429, "rate")
        assert problem["code"] == "request.rate"
        assert problem["allowed"] == ["<= 5 requests in 60 s"]
        assert 1 <= int(answer.headers["Retry-After"]) <= 12
        assert re.fullmatch(r'"key";r=0;t=\d+', answer.headers["RateLimit"])
    assert strict.client.get("/v1/jobs").status_code == 200, "another key is not held back"
    assert "RateLimit" not in strict.client.get("/healthz").headers


def test_no_limit_is_no_limit_and_no_header(serve: Any, tmp_path: Any) -> None:
    with serve(Settings(data_dir=tmp_path, key_requests=0)) as service:
        assert "RateLimit" not in service.client.get("/v1/jobs").headers
