"""`manifest.json`: all that is needed to run a job again, bit for bit."""

from typing import Literal

from pydantic import Field

from abcore.specs.base import Spec
from abcore.specs.runs import DistillRun


class Environment(Spec):
    """Where a run was computed. Its bits are promised where device, instructions and versions are the same."""

    device: str
    cpu: str = Field(description="The vector instructions that torch chose.")
    versions: dict[str, str]


class Manifest(Spec):
    """A run with nothing left open: its precision, layout, views and threads are those that it was computed with."""

    manifest: Literal[1] = 1
    run: DistillRun
    inputs: dict[str, str] = Field(description="sha256 of the verified `teacher` and `dataset`.")
    environment: Environment
    outputs: dict[str, str] = Field(description="sha256 of the student's files, by file name.")
