"""Everything a distillation works with, built from its inputs in the same order and so with the same random numbers."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import nn

from abcore.architectures import build_model
from abcore.computation import choose_computation, torch_format
from abcore.data.batches import EVALUATION_BATCH_SIZE, Batch, Feed, View
from abcore.data.dataset import ImageDataset, load_dataset
from abcore.describe import describe_model, plan_distillation
from abcore.devices import search_for_kernels
from abcore.evaluate import Evaluation, evaluate
from abcore.memory import earlier_halvings
from abcore.methods import build_method
from abcore.methods.base import FeatureMethod
from abcore.progress import Stopped
from abcore.specs.architectures import ModelSpec
from abcore.specs.computations import Computation
from abcore.specs.recipes import Finetune, Recipe, Transfer, num_batches
from abcore.specs.refusals import Refusal
from abcore.specs.reports import ModelDescription, TapPair
from abcore.specs.runs import TEACHER_CACHE, DistillRun
from abcore.teachers import Teacher
from abcore.team import Team
from abcore.transfer_head import TransferHead

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Setup:
    """The parts of one run, on their device. `teacher` and `method` are None where the recipe needs none."""

    run: DistillRun
    computation: Computation
    dataset: ImageDataset
    device: torch.device
    student_description: ModelDescription
    teacher_description: ModelDescription | None
    pairs: tuple[TapPair, ...]
    student: nn.Module
    teacher: Teacher | None
    method: FeatureMethod | None
    transfer_head: TransferHead | None
    feed: Feed
    cache_folder: Path
    should_stop: Callable[[], bool]
    team: Team
    _of_teacher: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def trained(self) -> nn.ModuleDict:
        """All that training changes."""
        modules = {"student": self.student, "method": self.method, "transfer_head": self.transfer_head}
        return nn.ModuleDict({name: module for name, module in modules.items() if module is not None})

    @property
    def same_classes(self) -> bool:
        """Whether teacher and student answer the same question, so that their answers can be compared."""
        teacher = self.run.teacher
        return teacher is not None and teacher.num_classes == self.student_description.spec.num_classes

    def steps_per_epoch(self, spec: Transfer | Finetune) -> int:
        """Optimizer steps of one epoch of a phase."""
        return num_batches(len(self.dataset.splits["train"]), spec.batch_size)

    def training_batches(self, spec: Transfer | Finetune, epoch: int, start_step: int) -> Iterator[Batch]:
        """The augmented batches of one epoch from its step `start_step` on; `epoch` counts over all phases."""
        recipe = self.run.recipe
        return self.feed.shuffled(
            View("train", recipe.view_number(epoch)),
            batch_size=spec.batch_size,
            order_seed=recipe.seed * 1_000_003 + epoch,
            start_step=start_step,
            share=self.team.share,
        )

    def evaluation_batches(self, split: str | None = None, most_images: int | None = None) -> Iterator[Batch]:
        """The images of a split (by default the evaluation split) as they are, or `most_images` evenly spread over it.

        Raises:
            Stopped: the run was asked to stop.
        """
        return self.whole_view(View(split or self.dataset.evaluation_split), most_images)

    def whole_view(self, view: View, most_images: int | None = None) -> Iterator[Batch]:
        """The images of a view in their split's order.

        Raises:
            Stopped: the run was asked to stop.
        """
        for batch in self.feed.in_order(view, most_images):
            if self.should_stop():
                raise Stopped
            yield batch

    def evaluate_teacher(self, split: str) -> Evaluation:
        """Measure the teacher on a held-out split: once, for it does not change.

        Raises:
            Stopped: the run was asked to stop.
            Refusal: its logits are not finite.
        """
        assert self.teacher is not None, "the run has no teacher"
        if split not in self._of_teacher:
            self._of_teacher[split] = evaluate(self.teacher.model, self.evaluation_batches(split))
        return self._of_teacher[split]

    def autocast(self) -> AbstractContextManager[None]:
        """The precision of forward passes in training."""
        enabled = self.computation.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def prepare(
    run: DistillRun,
    workspace: Path,
    device: torch.device,
    should_stop: Callable[[], bool],
    computation: Computation | None = None,
    team: Team | None = None,
) -> Setup:
    """Load the inputs and build the networks.

    The student's weights are the first thing drawn from the recipe's seed, so a student trained alone starts from the
    same ones as its distilled twin. Weights are drawn on the CPU, whatever the device. `computation` is how an earlier
    attempt computed, if there was one; `team` those who train together, where it is not this process alone.

    Raises:
        Refusal: run, teacher and dataset do not fit each other.
    """
    inputs = workspace / "inputs"
    dataset = load_dataset(inputs / "dataset.safetensors")
    student_spec = ModelSpec(
        architecture=run.student, image=dataset.report.image, num_classes=len(dataset.report.classes)
    )
    _check_has_teacher(run)
    teacher_description: ModelDescription | None = None
    pairs: tuple[TapPair, ...] = ()
    if run.teacher is None:
        student_description = describe_model(student_spec)
    else:
        plan = plan_distillation(student_spec, run.teacher, run.recipe)
        student_description, teacher_description, pairs = plan.student, plan.teacher, plan.pairs
    num_steps = _num_steps(run.recipe, len(dataset.splits["train"]))
    search_for_kernels(num_steps)
    if computation is None:
        computation = choose_computation(run.recipe, student_spec, device, num_steps=num_steps)
    layout = torch_format(computation)
    teacher = None
    if run.teacher is not None:
        names = [pair.teacher.name for pair in pairs]
        model = _place(load_model(run.teacher, inputs / "teacher.safetensors"), device, layout)
        teacher = Teacher(model, names, run.recipe.teacher_bn)
    torch.manual_seed(run.recipe.seed)
    student = _place(build_model(student_spec), device, layout)
    method = build_method(run.recipe.method, pairs) if run.recipe.compares_taps else None
    transfer_head = None
    if run.teacher is not None and run.recipe.finetune is not None and run.recipe.finetune.dtl_weight:
        transfer_head = TransferHead(student, run.teacher.num_classes).to(device)
    return Setup(
        run=run,
        computation=computation,
        dataset=dataset,
        device=device,
        student_description=student_description,
        teacher_description=teacher_description,
        pairs=pairs if method is not None else (),
        student=student,
        teacher=teacher,
        method=None if method is None else _place(method, device, layout),
        transfer_head=transfer_head,
        feed=Feed(
            dataset.splits,
            device=device,
            normalization=run.normalization,
            augmentation=run.recipe.augmentation,
            view_seed=run.recipe.view_seed,
            memory_format=layout,
            evaluation_batch_size=max(1, EVALUATION_BATCH_SIZE >> earlier_halvings()),
        ),
        cache_folder=workspace / TEACHER_CACHE,
        should_stop=should_stop,
        team=team or Team(),
    )


def load_model(spec: ModelSpec, weights: Path) -> nn.Module:
    """Build a network and load its verified weights, a safetensors file of exactly its state dict."""
    model = build_model(spec)
    model.load_state_dict(load_file(weights))
    return model


def _place(module: M, device: torch.device, layout: torch.memory_format) -> M:
    module.to(device)
    return module.to(memory_format=layout)  # type: ignore[call-overload, no-any-return]  # torch's stubs lack it


def _num_steps(recipe: Recipe, num_images: int) -> int:
    phases = [phase for phase in (recipe.transfer, recipe.finetune) if phase is not None]
    return sum(phase.epochs * num_batches(num_images, phase.batch_size) for phase in phases)


def _check_has_teacher(run: DistillRun) -> None:
    if run.teacher is None and run.recipe.needs_teacher:
        raise Refusal(
            "recipe.needs_teacher",
            "the recipe asks a teacher, and the run has none",
            where="recipe.transfer" if run.recipe.transfer is not None else "recipe.finetune",
            hint="Name a teacher, or train the student alone: transfer null, kd_weight 0, cross_entropy_weight 1.",
        )
