"""What training holds in memory at most, reasoned from the plan of a job."""

from abcore.specs.recipes import Recipe
from abcore.specs.reports import DatasetReport, ModelDescription
from api.schemas.estimates import MemoryEstimate
from api.schemas.jobs import JobPlan

_FLOAT = 4
_STATES = {"sgd": 1, "adamw": 2}
"""Numbers that an optimizer keeps for each weight."""
_MAPS_OF_A_TAP = 4
"""Of each pair: the teacher's map, the connector's before and after batch norm, and what the loss keeps."""
_MAPS_AT_ONCE = 4
"""Of a forward pass without gradients: input, output, a shortcut, and room that a convolution works in."""
_GRADIENTS_AT_ONCE = 2
_JACOBIAN = 3
"""A step through the gradients by the image keeps about so many times what a plain one does."""
_OLD = "only descriptions by earlier versions lack it"
BASIS = (
    "A bound in float32: weights, gradients and optimizer; what autograd keeps of the largest batch, read off a pass "
    "without data; the teacher as if it were asked at every step. What Python and torch take themselves is not in it "
    "(some 0.4 GB on a CPU, more where CUDA is), nor a copy of the dataset that a page cache holds."
)


def memory_estimate(recipe: Recipe, plan: JobPlan, dataset: DatasetReport) -> MemoryEstimate:
    """Bound what a job's child holds while it trains; the plan is one that was just made."""
    student, teacher = plan.student, plan.teacher if recipe.needs_teacher else None
    phases = [phase for phase in (recipe.transfer, recipe.finetune) if phase is not None]
    batch = max(phase.batch_size for phase in phases)
    weights = 2 + max(_STATES[phase.optimizer.name] for phase in phases)  # themselves, and their gradients
    pairs = plan.pairs if recipe.compares_taps else []
    image = dataset.image
    num_images = sum(split.num_images for split in dataset.splits.values())
    parts = {
        "student_bytes": student.size_bytes + student.num_parameters * _FLOAT * (weights - 1),
        "connector_bytes": sum(pair.connector_parameters for pair in pairs) * _FLOAT * weights,
        "activation_bytes": _of_student(student, recipe) * batch,
        "tap_bytes": sum(pair.teacher.neurons for pair in pairs) * _FLOAT * _MAPS_OF_A_TAP * batch,
        "teacher_bytes": _of_teacher(teacher, batch),
        "dataset_bytes": image.channels * image.height * image.width * num_images,
    }
    return MemoryEstimate(total_bytes=sum(parts.values()), **parts, basis=BASIS)


def _of_student(student: ModelDescription, recipe: Recipe) -> int:
    """Bytes of one image that a step keeps, and the gradients of the largest map on their way back."""
    assert student.activation_bytes is not None, _OLD
    assert student.largest_map_bytes is not None, _OLD
    passes = _JACOBIAN if recipe.method.name == "jacobian" else 1
    return student.activation_bytes * passes + student.largest_map_bytes * _GRADIENTS_AT_ONCE


def _of_teacher(teacher: ModelDescription | None, batch: int) -> int:
    if teacher is None:
        return 0
    assert teacher.largest_map_bytes is not None, _OLD
    return teacher.size_bytes + teacher.largest_map_bytes * _MAPS_AT_ONCE * batch
