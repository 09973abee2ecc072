"""`python -m abcore.describe`: answers one JSON line on stdout for each on stdin, until end-of-file.

    {"op": "describe", "model": ModelSpec}                                           -> {"ok": ModelDescription}
    {"op": "plan", "student": ModelSpec, "teacher": ModelSpec, "recipe": Recipe}     -> {"ok": DistillationPlan}

A request that cannot be met is answered `{"refused": Problem}`, one that is not understood or trips over a bug
`{"error": "..."}`. The first line, `{"ready": true}`, says that torch is loaded and warm.
"""

import contextlib
import json
import sys
import traceback
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from abcore.describe import describe_model, plan_distillation
from abcore.specs.architectures import ModelSpec
from abcore.specs.base import Spec
from abcore.specs.recipes import Recipe
from abcore.specs.refusals import Refusal


class DescribeRequest(Spec):
    """What is this network?"""

    op: Literal["describe"]
    model: ModelSpec


class PlanRequest(Spec):
    """What would this distillation do?"""

    op: Literal["plan"]
    student: ModelSpec
    teacher: ModelSpec
    recipe: Recipe


_REQUEST: TypeAdapter[DescribeRequest | PlanRequest] = TypeAdapter(
    Annotated[DescribeRequest | PlanRequest, Field(discriminator="op")]
)
_WARMING_UP = """{"op": "describe", "model": {"architecture": {"arch": "torchvision", "name": "resnet18"},
    "image": {"channels": 3, "height": 32, "width": 32}, "num_classes": 10}}"""


def answer(line: str) -> dict[str, Any]:
    """Answer one request line. Never raises: the next request has nothing to do with this one."""
    try:
        request = _REQUEST.validate_json(line)
        match request:
            case DescribeRequest():
                return {"ok": describe_model(request.model).model_dump(mode="json")}
            case PlanRequest():
                plan = plan_distillation(request.student, request.teacher, request.recipe)
                return {"ok": plan.model_dump(mode="json")}
    except Refusal as refusal:
        return {"refused": refusal.problem.model_dump(mode="json")}
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Serve standard input to its end."""
    answers = sys.stdout
    with contextlib.redirect_stdout(
        sys.stderr
    ):  # whatever a library prints must not come between the answers
        answer(_WARMING_UP)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(answer(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
