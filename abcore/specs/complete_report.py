"""`report.json`: all that came out of a job."""

from pydantic import Field

from abcore.events import PhaseName
from abcore.specs.base import Spec
from abcore.specs.reports import DistillReport
from abcore.specs.runs import DistillRun


class Curve(Spec):
    """One figure through one phase: `values[i]` after `steps[i]` optimizer steps of the phase."""

    phase: PhaseName
    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


class CompleteReport(DistillReport):
    """`report.json`."""

    classes: tuple[str, ...]
    confusion: dict[str, tuple[tuple[int, ...], ...]] = Field(
        description="By held-out split: `[true class][predicted class]`, numbers of images."
    )
    curves: tuple[Curve, ...]
    run: DistillRun
    device: str
