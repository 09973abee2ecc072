"""`report.json`: all that came out of a job."""

from pydantic import Field

from abcore.events import PhaseName
from abcore.specs.base import Spec
from abcore.specs.reports import Accuracy, DistillReport
from abcore.specs.runs import DistillRun


class Curve(Spec):
    """One figure through one phase: `values[i]` after `steps[i]` optimizer steps of the phase."""

    phase: PhaseName
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class Alone(Spec):
    """What the same network reached on the same dataset in a job without a teacher; its recipe may be another."""

    job: str
    student_accuracy: dict[str, Accuracy]


class CompleteReport(DistillReport):
    """`report.json`."""

    classes: tuple[str, ...]
    confusion: dict[str, tuple[tuple[int, ...], ...]] = Field(
        description="By held-out split: `[true class][predicted class]`, numbers of images."
    )
    curves: tuple[Curve, ...]
    run: DistillRun
    device: str
    alone: Alone | None = Field(description="Null where the service knows of no such job.")
