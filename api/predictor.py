"""Images shown to finished students, in a process of its own (`python -m abcore.predicting`) in the empty room."""

import asyncio
import json
import logging
import os
import tempfile
from base64 import b64encode
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import TypeAdapter

import abcore
import leash
from abcore.specs.refusals import Problem, Refusal
from api.asked_process import AskedProcess, TorchUnavailable
from api.schemas.predictions import PredictedClass
from leash.runtime import runtime
from store.blobs import BlobStore
from store.models import Artifact
from store.settings import Settings

STUDENTS_KEPT = 8
MOST_OPEN_QUESTIONS = 8
ADDRESS_SPACE_BYTES = 16 * 2**30
"""Of which torch maps some eight, used or not; the rest is for a student of 2^30 bytes, and one image at a time."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "random", "urandom", "shm"))
_PROBLEM: TypeAdapter[Problem] = TypeAdapter(Problem)
_CLASSES: TypeAdapter[list[list[PredictedClass]]] = TypeAdapter(list[list[PredictedClass]])
_log = logging.getLogger(__name__)


class Predictor:
    """Started when it is first needed. It keeps the files of the last students; one question is answered at a time."""

    def __init__(self, settings: Settings) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="abdistill-students-")
        self._students: OrderedDict[str, Path] = OrderedDict()
        code = Path(abcore.__file__).resolve().parent.parent
        hidden = frozenset({settings.data_dir.resolve(), settings.workspace_dir.resolve()})
        readable, listable = runtime(code, hidden, os.environ.get("LD_LIBRARY_PATH"))
        scrubbed = {name: value for name in _PASSED_ON if (value := os.environ.get(name))}
        self._process = AskedProcess(
            "abcore.predicting",
            scrubbed
            | {"PYTHONPATH": str(code), "HOME": self._folder.name, "TMPDIR": self._folder.name}
            | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            leash.Limits(
                core_bytes=0,
                address_space_bytes=ADDRESS_SPACE_BYTES,
                network=False,
                new_privileges=False,
                processes=False,
                files=leash.Files((*readable, self._folder.name), _DEVICES, listable),
            ),
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predictor")
        self._open = 0

    @property
    def pid(self) -> int | None:
        """Of the process, if it runs."""
        return self._process.pid

    def close(self) -> None:
        """End the process; whoever waits is told that there is no answer."""
        self._process.close()
        self._thread.shutdown(cancel_futures=True)
        self._folder.cleanup()

    async def predict(
        self, blobs: BlobStore, student: Artifact, images: Sequence[bytes], top: int
    ) -> list[list[PredictedClass]]:
        """Return the `top` likeliest classes of each image file.

        Raises:
            Refusal: an image cannot be read.
            BlobMissing: the student's file is gone.
            TorchUnavailable: too many ask at once, or it took too long.
        """
        if self._open >= MOST_OPEN_QUESTIONS:
            raise TorchUnavailable("Too many images wait to be looked at; ask again in a moment.")
        self._open += 1
        try:
            asked = asyncio.get_running_loop().run_in_executor(
                self._thread, self._answer, blobs, student, images, top
            )
            return await asyncio.shield(asked)
        finally:
            self._open -= 1

    def _answer(
        self, blobs: BlobStore, student: Artifact, images: Sequence[bytes], top: int
    ) -> list[list[PredictedClass]]:
        question = {
            "student": str(self._file(blobs, student)),
            "images": [b64encode(image).decode() for image in images],
            "top": top,
        }
        answer = self._process.exchange(json.dumps(question))
        if "refused" in answer:
            problem = _PROBLEM.validate_python(answer["refused"])
            raise Refusal(problem.code, problem.message, **problem.model_dump(exclude={"code", "message"}))
        if "error" in answer:
            raise RuntimeError(f"abcore.predicting failed: {answer['error']}")
        return _CLASSES.validate_python(answer["ok"])

    def _file(self, blobs: BlobStore, student: Artifact) -> Path:
        path = self._students.pop(student.sha256, None)
        if path is None:
            path = Path(self._folder.name) / student.sha256
            blobs.fetch(student.blob_key, path, student.sha256)
        self._students[student.sha256] = path
        while len(self._students) > STUDENTS_KEPT:
            self._students.popitem(last=False)[1].unlink(missing_ok=True)
        return path
