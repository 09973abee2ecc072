"""Writes docs/performance.md from measurements beside it: `python docs/performance_page.py [RESULTS]`.

With `benchmarks/results`, where `python -m benchmarks` leaves them, they are taken over into docs/performance first.
"""

import json
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

PAGE = Path(__file__).with_name("performance.md")
RESULTS = Path(__file__).with_name("performance")
HEAD = """# Speed

Every figure is a ratio of two things that were measured in turn in one process, by `python -m benchmarks` (`make bench`; one of
them by its name). This page is made of their results by `python docs/performance_page.py benchmarks/results`. A figure
that does not reach its target says **missed**.

"""


class Target(NamedTuple):
    """What a figure shall be: at most `most`, or at least `least`."""

    measurement: str
    figure: str
    what: str
    most: float | None = None
    least: float | None = None

    def row(self, value: float) -> str:
        """A line of the table."""
        is_met = value <= self.most if self.most is not None else value >= (self.least or 0.0)
        bound = f"<= {self.most:g}" if self.most is not None else f">= {self.least:g}"
        return f"| {self.what} | {value:.3g} | {bound} | {'' if is_met else '**missed**'} | `{self.measurement}` |\n"


def _steps(measurement: str, *, written_out: float) -> tuple[Target, ...]:
    """What steps shall take; the method written out at least `written_out` times as long as ours."""
    named = partial(Target, measurement)
    return (
        named("cached_fp32", "transfer step, cached, over the student's own step, float32", most=1.15),
        named("defaults_over_plain", "transfer step, defaults, over its own step, plain float32", most=0.6),
        named(
            "transcription_over_cached",
            "transfer step, the method written out, over ours",
            least=written_out,
        ),
        named("transcription_over_online", "the same, teacher asked at every step", least=2.2),
        named("finetune", "finetune step, kept logits, over a cross-entropy step", most=1.05),
    )


TARGETS = (
    *_steps("step", written_out=5),
    Target(
        "reuse", "second_job", "second job, same teacher and data, transfer phase, over the first", most=0.45
    ),
    Target("reuse", "second_machine", "the same on another machine, by way of the blob store", most=0.5),
    Target("requests", "get", "GET of a job, requests a second, over an empty handler's", least=0.5),
    Target("requests", "not_modified", "the same with If-None-Match", least=0.7),
    Target("requests", "p99_over_p50", "GET of a job, p99 over p50", most=10),
    Target(
        "service", "to_first_step", "submit to the end of the first training step, p50, seconds", most=0.5
    ),
    Target(
        "service", "whole_job", "a whole job, submit to downloaded, over the bare loop's training", most=1.05
    ),
    Target("service", "memory", "memory of the training child over the bare loop's, peaks", most=1.1),
    Target("service", "data_wait", "share of the training that steps wait for data", most=0.02),
    Target("uploads", "one_request", "upload of 1 GiB in one request, over cp, fsync and sha256sum", most=2),
    Target("uploads", "client", "the same by the client, in parts, its own hashing included", most=2),
    Target("uploads", "growth_mib", "growth of the API's memory meanwhile, MiB", most=40),
    Target("tables", "list", "list of jobs among 100,000, over among 100", most=1.3),
    Target("tables", "get", "one job among them", most=1.3),
    Target("tables", "claim", "a claim among them", most=1.3),
)

WITHOUT_AMX = """
## On a processor without bfloat16 matrices

How the first five rows come out depends on the processor. Those above are of one where bfloat16 was nearly twice as fast, so that `auto` chose it. These are
of one with AVX-512 and no AMX: bfloat16 was slower there, `auto` chose float32, and what only a faster format gives is not to be had. All
other rows above were measured on the latter.

"""
ON_A_GPU = """
## On a GPU

The same on an H100 (`python -m benchmarks step` there). Passes, ours and the student's own, are replayed as CUDA graphs, which the service does by
itself where it measures them to be faster ([decision 0012](decisions/0012-a-pass-is-recorded.md)); the written-out
method and the plain step are not.

"""


def page() -> str:
    """The page's text: a row a figure, and where each was measured."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    sections = "".join(_section(name, result) for name, result in found.items())
    return (
        HEAD
        + _table(TARGETS, found)
        + WITHOUT_AMX
        + _table(_steps("step-without-amx", written_out=5), found)
        + ON_A_GPU
        + _table(_steps("step-h100", written_out=8), found)
        + sections
    )


def _table(targets: tuple[Target, ...], found: dict[str, dict[str, Any]]) -> str:
    rows = "".join(t.row(found[t.measurement]["figures"][t.figure]) for t in targets)
    return "| figure | measured | target | | measurement |\n|---|---|---|---|---|\n" + rows


def _section(name: str, result: dict[str, Any]) -> str:
    defaults = f" Defaults: {result['defaults']}." if "defaults" in result else ""
    versions = f"torch {result['torch']}, Python {result['python']}, {result['machine']}"
    lines = [f"\n## {name}\n\n{result['setting']}.{defaults} {versions}.\n\n"]
    for unit in ("milliseconds", "seconds", "requests a second"):
        if unit in result:
            lines.append(f"```json\n{json.dumps({unit: result[unit]}, indent=2)}\n```\n")
    return "".join(lines)


if __name__ == "__main__":
    for result in Path(sys.argv[1]).glob("*.json") if len(sys.argv) > 1 else ():
        RESULTS.mkdir(exist_ok=True)
        shutil.copy(result, RESULTS)
    PAGE.write_text(page())
