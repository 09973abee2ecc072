"""`python -m abcore.describe`: answers one JSON line on stdout for each on stdin, until end-of-file.

    {"op": "describe", "model": ModelSpec}                                           -> {"ok": ModelDescription}
    {"op": "plan", "student": ModelSpec, "teacher": ModelSpec, "recipe": Recipe}     -> {"ok": DistillationPlan}

A request that cannot be met is answered `{"refused": Problem}`, one that is not understood or trips over a bug
`{"error": "..."}`. The first line, `{"ready": true}`, says that torch is loaded and warm.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from abcore.answering import serve
from abcore.describe import describe_model, plan_distillation
from abcore.specs.architectures import ModelSpec
from abcore.specs.base import Spec
from abcore.specs.recipes import Recipe


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
    """Answer one request line.

    Raises:
        Refusal: the network cannot be built, or the distillation could not work.
    """
    request = _REQUEST.validate_json(line)
    match request:
        case DescribeRequest():
            return describe_model(request.model).model_dump(mode="json")
        case PlanRequest():
            plan = plan_distillation(request.student, request.teacher, request.recipe)
            return plan.model_dump(mode="json")


if __name__ == "__main__":
    serve(answer, warm_up=lambda: answer(_WARMING_UP))
