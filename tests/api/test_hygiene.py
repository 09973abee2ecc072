"""A live service, as its own process, asked by bare sockets: slow, endless and foreign requests; what its log keeps."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from store import schema
from store.database import Database
from store.keys import create_key, rotate_key
from store.models import DEFAULT_PROJECT
from store.settings import Settings

PATIENCE_SECONDS = 60.0
ORIGIN = "https://lab.example"
DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


class Live:
    """`python -m api`, with its log in a file."""

    def __init__(self, folder: Path, port: int) -> None:
        self.port, self.url = port, f"http://127.0.0.1:{port}"
        self.log_file = folder / "log"
        self.db = Database(Settings(data_dir=folder).database_url)
        _, self.key = create_key(self.db, DEFAULT_PROJECT, "tests")
        self.authorization = f"Authorization: Bearer {self.key}"

    def connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.settimeout(PATIENCE_SECONDS)
        return connection

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.key}"})


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    schema.upgrade(Settings(data_dir=folder).database_url)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    told = {
        "DATA_DIR": str(folder),
        "PORT": str(port),
        "REQUEST_SECONDS": "1",
        "CORS_ORIGINS": f"{ORIGIN}, https://b",
    }
    environment = dict(os.environ) | {f"ABDISTILL_{name}": value for name, value in told.items()}
    service = Live(folder, port)
    with service.log_file.open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "api"], env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"Uvicorn running on" not in service.log_file.read_bytes():
            assert process.poll() is None, service.log_file.read_text()
            assert time.monotonic() < deadline, service.log_file.read_text()
            time.sleep(0.05)
        yield service
    finally:
        process.terminate()
        process.wait()
        service.db.dispose()


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def drip(connection: socket.socket, piece: bytes) -> bytes:
    """Send a piece again and again, until there is an answer and the connection is closed."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    connection.settimeout(0.1)
    got = b""
    while time.monotonic() < deadline:
        try:
            connection.sendall(piece)
            part = connection.recv(65536)
        except TimeoutError:
            continue
        except (ConnectionResetError, BrokenPipeError):
            return got
        if not part:
            return got
        got += part
    raise AssertionError(f"still open after {PATIENCE_SECONDS:g} s: {got!r}")


def test_a_head_that_comes_drop_by_drop_is_cut_off(live: Live) -> None:
    for begin in (b"", b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with live.connect() as connection:
            connection.sendall(begin)
            assert drip(connection, b"G" if begin == b"" else b"a").startswith(
                (b"HTTP/1.1 408", b"HTTP/1.1 400")
            )


def test_a_connection_that_says_nothing_is_closed(live: Live) -> None:
    with live.connect() as connection:
        assert answer_of(connection).startswith(b"HTTP/1.1 408")


def test_a_second_head_on_the_same_connection_has_no_more_time(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost:")
        answers = answer_of(connection)
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answers


def test_many_slow_ones_keep_nobody_else_out(live: Live) -> None:
    slow = [live.connect() for _ in range(200)]
    for connection in slow:
        connection.sendall(b"POST /v1/datasets HTTP/1.1\r\nHost: x\r\n")
    assert httpx.get(f"{live.url}/healthz").status_code == 200
    for connection in slow:
        assert answer_of(connection).startswith(b"HTTP/1.1 408")
        connection.close()


@pytest.mark.parametrize("field", [b"X-Long: ", b""], ids=["one field", "many fields"])
def test_a_head_without_end_is_refused(live: Live, field: bytes) -> None:
    with live.connect() as connection:
        connection.sendall(b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\n" + field)
        got = drip(connection, b"a" * 30_000 if field else b"X-A: b\r\n" * 4000)
    assert not got or got.startswith(b"HTTP/1.1 431")


def test_a_body_that_comes_drop_by_drop_is_refused(live: Live) -> None:
    with live.client() as client:
        made = client.post("/v1/datasets", json={"name": "d", "filename": "d.npz"}).json()
    for method, path in (("POST", "/v1/datasets"), ("PUT", f"/v1/datasets/{made['id']}/content")):
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{live.authorization}\r\nContent-Length: 1000\r\n"
        with live.connect() as connection:
            connection.sendall(f"{head}Content-Type: application/json\r\n\r\n{{".encode())
            # A JSON body as a whole has its time; an upload only has to go on.
            got = drip(connection, b" ") if method == "POST" else answer_of(connection)
        assert got.startswith(b"HTTP/1.1 408")
        assert b'"request.slow"' in got


def test_an_upload_that_is_slow_but_goes_on_arrives(live: Live) -> None:
    def slowly() -> Iterator[bytes]:
        for _ in range(5):
            time.sleep(0.4)
            yield b"x"

    with live.client() as client:
        made = client.post("/v1/datasets", json={"name": "d", "filename": "d.npz"}).json()
        assert client.put(f"/v1/datasets/{made['id']}/content", content=slowly()).status_code == 202


def test_only_pages_of_allowed_origins_may_use_it_from_a_browser(live: Live) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,idempotency-key",
    }
    for origin, allowed in ((ORIGIN, True), ("https://b", True), ("https://evil.example", False)):
        preflight = httpx.options(f"{live.url}/v1/jobs", headers=asked | {"Origin": origin})
        assert preflight.is_success == allowed
        answer = httpx.get(f"{live.url}/healthz", headers={"Origin": origin})
        assert answer.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
        assert "Access-Control-Allow-Credentials" not in answer.headers


def test_without_a_setting_no_page_may(service: Any) -> None:
    for answer in (
        httpx.get(f"{service.url}/healthz", headers={"Origin": ORIGIN}),
        httpx.options(
            f"{service.url}/v1/jobs", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
        ),
    ):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_answers_tell_nothing_of_the_server_and_let_no_browser_guess(live: Live) -> None:
    for path in ("/healthz", "/v1/jobs", "/nowhere", "/docs"):
        headers = httpx.get(f"{live.url}{path}").headers
        assert "server" not in headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")


def test_the_log_keeps_no_secret(live: Live) -> None:
    """Right and wrong keys, in the header, a query, a path and a body; a webhook's secret; a fault that is logged."""
    key, old = create_key(live.db, DEFAULT_PROJECT, "rotated")
    _, new = rotate_key(live.db, DEFAULT_PROJECT, key.id, overlap_seconds=0)
    wrong = "abd_" + "w" * 43
    hook = "whsec_" + "c2VjcmV0" * 4
    secrets = {live.key, old, new, wrong, hook}
    for secret in secrets:
        bearer = {"Authorization": f"Bearer {secret}"}
        for url in ("/v1/jobs", f"/v1/jobs?api_key={secret}", "/v1/jobs/job_none"):
            httpx.get(live.url + url, headers=bearer)
        httpx.post(
            f"{live.url}/v1/webhooks", json={"url": "https://203.0.114.7/", "secret": secret}, headers=bearer
        )
    with live.client() as client:
        made = client.post(
            "/v1/webhooks", json={"url": "https://203.0.114.7/", "events": ["job.failed"], "secret": hook}
        )
        assert made.status_code == 201, made.text
        client.post(f"/v1/webhooks/{made.json()['id']}/test")
    log = live.log_file.read_text()
    assert "GET /v1/jobs 200" in log
    assert "GET /v1/jobs 401" in log
    assert not [secret for secret in secrets if secret in log or secret[4:] in log]


def test_the_image_runs_as_nobody_special() -> None:
    words = [line.split() for line in DOCKERFILE.read_text().splitlines()]
    last_stage = words[max(number for number, line in enumerate(words) if line[:1] == ["FROM"]) :]
    assert ["USER", "abdistill"] in last_stage
    assert last_stage.index(["USER", "abdistill"]) < next(
        n for n, line in enumerate(last_stage) if line[:1] == ["CMD"]
    )
