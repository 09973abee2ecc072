"""The whole service under siege: what is sent, what is answered, and what is left of it."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import httpx
from abdistill import Client
from abdistill.errors import ProblemItem, Rejected
from hostile.case import Case
from hostile.corpus.pickles import CANARY
from hostile.corpus.requests import HostileRequest
from plugins.forge import MODEL, Forge

from abcore.specs.codes import CODES
from demo.service import running_service

PATIENCE_SECONDS = 1800.0


@dataclass(frozen=True)
class Verdict:
    """What the service said of one file or request: `code` is that of its first problem, None where it was read."""

    family: str
    name: str
    code: str | None


class Siege:
    """A running service, and the folder that it lives in."""

    def __init__(self, client: Client, folder: Path, forge: Forge) -> None:
        self.folder = folder
        self._client = client
        self._forge = forge
        self._data_dir = folder / "service"
        self._api = _api_process(self._data_dir)
        self._file = folder / "upload"
        self._peak_before = _peak_bytes(self._api)

    def send(self, cases: Iterable[Case]) -> Iterator[Verdict]:
        """Upload all files, then see what became of each."""
        for case, id_ in [(case, self._upload(case)) for case in cases]:
            yield Verdict(case.family, case.name, self._code_of(case, id_))

    def ask(self, requests: Iterable[HostileRequest]) -> Iterator[Verdict]:
        """Send all requests; each answer has to be a problem document with a registered code."""
        key = (self._data_dir / "api-key").read_text().strip()
        url = self._client.base_url
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60.0) as http:
            for request in requests:
                headers = {"Content-Type": request.media_type}
                answer = http.post(request.path, content=request.body, headers=headers)
                assert answer.status_code in request.statuses, (request, answer.text[:500])
                assert answer.headers["content-type"] == "application/problem+json", request
                errors = [ProblemItem.model_validate(error) for error in answer.json()["errors"]]
                assert len(answer.content) < 100_000, request
                code = _checked(errors, request)
                assert request.code is None or code == request.code, (request, errors)
                yield Verdict(request.family, request.name, code)

    @property
    def grown_bytes(self) -> int:
        """By how much the API's peak memory has grown since the siege began."""
        return _peak_bytes(self._api) - self._peak_before

    @property
    def server_errors(self) -> list[str]:
        """The API's answers of 5xx so far, as its log has them."""
        log = (self.folder / "service.log").read_text(errors="replace")
        answers = re.findall(r"(?:GET|HEAD|POST|PUT|PATCH|DELETE) /\S* (\d{3}) \d+ ms", log)
        assert len(answers) > 10, "the log is not read as it is written"
        return [status for status in answers if status.startswith("5")]

    def files_left(self) -> list[str]:
        """What lies in the blob store and in workspaces, but for the logs of jobs."""
        blobs = [path for path in (self._data_dir / "blobs").rglob("*") if path.is_file()]
        attempts = (self._data_dir / "workspaces").glob("*/*")
        return [str(path) for path in blobs if not path.name.startswith("log-")] + [
            str(path) for path in attempts
        ]

    def check_that_it_goes_on(self) -> None:
        """An honest teacher is accepted."""
        self._file.write_bytes(self._forge.torch(self._forge.state()))
        teacher = self._client.teachers.add(self._file, name="honest", model=MODEL.model_dump(mode="json"))
        assert teacher.state == "ready"
        self._client.teachers.delete(teacher.id)

    def _upload(self, case: Case) -> str:
        self._file.write_bytes(case.make(self._forge))
        if case.reader == "teacher":
            id_ = self._client.teachers.create("hostile", MODEL.model_dump(mode="json")).id
            return self._client.teachers.upload(id_, self._file).id
        id_ = self._client.datasets.create("hostile", "upload", image_size=case.image_size).id
        return self._client.datasets.upload(id_, self._file).id

    def _code_of(self, case: Case, id_: str) -> str | None:
        uploads = self._client.teachers if case.reader == "teacher" else self._client.datasets
        try:
            uploads.wait(id_, timeout_seconds=PATIENCE_SECONDS, poll_seconds=0.1)
        except Rejected as rejected:
            problems = rejected.resource.problems
        else:
            problems = None
        uploads.delete(id_)
        if problems is None:
            assert not case.codes, f"{case} was accepted"
            return None
        code = _checked(problems, case)
        assert code in case.codes, (case, problems)
        return code


@contextmanager
def besieged(folder: Path, forge: Forge) -> Iterator[Siege]:
    """Start the service as `abdistill-server up` runs it: broker, API, worker, each a process.

    No child waits for training, which would only cost time: what reads an upload is a fresh child in any case.
    """
    CANARY.unlink(missing_ok=True)
    with (
        patch.dict(os.environ, ABDISTILL_WARM_CHILDREN="false"),
        running_service(folder / "service", folder / "service.log") as client,
    ):
        yield Siege(client, folder, forge)


def table(verdicts: Iterable[Verdict]) -> list[dict[str, object]]:
    """A row a family: how many were sent, refused and read, and by which codes."""
    families: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        families.setdefault(verdict.family, []).append(verdict)
    return [
        {
            "family": family,
            "files": len(found),
            "refused": sum(verdict.code is not None for verdict in found),
            "codes": dict(
                Counter(verdict.code for verdict in found if verdict.code is not None).most_common()
            ),
        }
        for family, found in families.items()
    ]


def _checked(problems: Iterable[ProblemItem] | None, what: object) -> str:
    """The code of the first problem; all have to name what is wrong and where, by a code that is registered."""
    found = list(problems or ())
    assert found, what
    for problem in found:
        assert problem.code in CODES, (what, problem)
        assert problem.message, (what, problem)
        assert problem.where, (what, problem)
    assert found[0].code is not None
    return found[0].code


def _api_process(data_dir: Path) -> int:
    """The process that answers requests for this folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command, environ = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
            except OSError:  # it has ended, or is another user's
                continue
            ours = f"ABDISTILL_DATA_DIR={data_dir}".encode() in environ.split(b"\0")
            if ours and command.endswith(b"\0-m\0api\0") and b"leash" not in command:
                return int(entry.name)
    raise AssertionError(f"no API runs in {data_dir}")


def _peak_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
