"""Which tap of the student learns from which tap of the teacher.

Both networks see the same image, so two taps are alike when they work at the same scale of it. The rule:

1. The deepest taps are paired, whatever their scales: both are what the classifier reads.
2. Above them, every tap of the network that has fewer is paired, shallow to deep in both, so that the scales differ as
   little as possible in sum; of equal choices, the deeper taps. The other network's remaining taps are left out.

Where a pair's maps differ in size, the connector resizes the student's to the teacher's.
"""

import math
from collections.abc import Sequence
from itertools import combinations

from abcore.specs.refusals import Refusal
from abcore.specs.reports import TapPair, TapPoint


def pair_taps(student_taps: Sequence[TapPoint], teacher_taps: Sequence[TapPoint]) -> tuple[TapPair, ...]:
    """Pair taps that were found automatically, shallow to deep.

    Raises:
        Refusal: one of the networks has no tap (`taps.none`). The message lists the other's.
    """
    for owner, taps, others in (
        ("student", student_taps, teacher_taps),
        ("teacher", teacher_taps, student_taps),
    ):
        if not taps:
            raise Refusal(
                "taps.none",
                f"the {owner} has no tap point to pair: no activation of it reads a feature map. "
                f"The other network has {describe_taps(others) or 'none either'}",
                where=owner,
                hint="Take another architecture, or a recipe without a transfer phase.",
            )
    num_pairs = min(len(student_taps), len(teacher_taps))
    students, teachers = min(
        (
            (students, teachers)
            for students in _ending_deepest(student_taps, num_pairs)
            for teachers in _ending_deepest(teacher_taps, num_pairs)
        ),
        key=lambda choice: _scale_difference(*choice),
    )
    return tuple(tap_pair(student, teacher) for student, teacher in zip(students, teachers, strict=True))


def tap_pair(student: TapPoint, teacher: TapPoint) -> TapPair:
    """Pair two taps. The connector is a 1x1 convolution without bias and a batch norm of the teacher's width."""
    weights = student.channels * teacher.channels
    return TapPair(student=student, teacher=teacher, connector_parameters=weights + 2 * teacher.channels)


def describe_taps(taps: Sequence[TapPoint]) -> str:
    """List taps for a message: `layer2.1.relu#1 (128x28x28), ...`."""
    return ", ".join(f"{tap.name} ({tap.channels}x{tap.height}x{tap.width})" for tap in taps)


def _ending_deepest(taps: Sequence[TapPoint], count: int) -> list[tuple[TapPoint, ...]]:
    """All choices of `count` taps that end with the last one, the deepest choices first."""
    choices = list(combinations(taps[:-1], count - 1))
    return [(*choice, taps[-1]) for choice in reversed(choices)]


def _scale_difference(students: tuple[TapPoint, ...], teachers: tuple[TapPoint, ...]) -> float:
    """Sum over the pairs, in halvings of the resolution."""
    return sum(
        abs(math.log2((student.height * student.width) / (teacher.height * teacher.width))) / 2
        for student, teacher in zip(students, teachers, strict=True)
    )
