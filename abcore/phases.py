"""The two phases of a distillation: from a batch to named losses. The loop that runs them knows neither."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from abcore.answers import Answers
from abcore.caching import Choice
from abcore.data.batches import Batch
from abcore.evaluate import Evaluation, agreement, evaluate, evaluating, measure_similarity
from abcore.events import PhaseName
from abcore.losses import distillation_loss
from abcore.methods.base import ConnectedMethod, FeatureMethod
from abcore.mixing import Mixture, mix
from abcore.setup import Setup
from abcore.specs.recipes import Finetune, Transfer
from abcore.taps import TapCapture
from abcore.teachers import Teacher
from abcore.transfer_head import dtl_loss
from abcore.views import Views

PROBE_IMAGES = 2048
"""Images on which boundary similarity is followed from epoch to epoch; before and after a phase all are taken."""


class Look(NamedTuple):
    """What a step computes its losses of.

    Attributes:
        batch: its images as the student sees them: mixed, where the recipe mixes.
        teacher: what the teacher makes of these images, as far as the losses ask for it.
        mixture: of the images; None where nothing is ever mixed.
    """

    batch: Batch
    teacher: Views
    mixture: Mixture | None = None

    @property
    def tensors(self) -> list[Tensor]:
        """What differs from step to step, on the training device."""
        return [self.batch.images, self.batch.labels, *self.teacher.tensors]

    def clone(self) -> "Look":
        """A copy whose `tensors` are memory of its own."""
        images, labels = self.batch.images.clone(), self.batch.labels.clone()
        return Look(self.batch._replace(images=images, labels=labels), self.teacher.clone(), self.mixture)


class Phase(ABC):
    """A part of training with its own losses, optimizer and schedule.

    `trained` holds all modules that it trains; `memory` what else it must not forget when it is stopped.
    """

    name: ClassVar[PhaseName]

    def __init__(self, spec: Transfer | Finetune, trained: nn.ModuleDict) -> None:
        self.spec = spec
        self.trained = trained
        self.memory: dict[str, Any] = {}

    @contextmanager
    def open(self) -> Iterator[None]:
        """What must be in place while the phase runs: hooks, modules in training mode."""
        self.trained.train()
        yield

    @abstractmethod
    def look(self, batch: Batch) -> Look:
        """Mix the images, and ask the teacher about them: all of a step that reads files or draws on the CPU."""

    @abstractmethod
    def losses(self, look: Look) -> dict[str, Tensor]:
        """Return the weighted losses of one batch, scalars, by name. Their sum is what is minimised."""

    @property
    def repeats(self) -> bool:
        """Whether each batch's losses are computed by the same operations, of nothing but `Look.tensors`."""
        return True

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Return what shall be followed from epoch to epoch, measured on held-out images. Draws no random number."""

    @property
    def has_settled(self) -> bool:
        """Whether the phase may end before its last epoch: what it follows has stopped getting better."""
        return False

    def begin(self) -> dict[str, Any]:
        """Return what to remember from before the phase."""
        return {}

    def end(self) -> dict[str, Any]:
        """Return what to remember from after the phase."""
        return {}


class TransferPhase(Phase):
    """Stage 1 of the paper: the student's body learns from the teacher's maps. Its head is not even computed."""

    name = "transfer"

    def __init__(self, spec: Transfer, setup: Setup, method: FeatureMethod, answers: Answers) -> None:
        assert setup.teacher is not None, "transfer needs a teacher"
        super().__init__(spec, nn.ModuleDict({"student": setup.student, "method": method}))
        self._setup = setup
        self._teacher = setup.teacher
        self._answers = answers
        self._method = method
        self._student_taps = TapCapture(setup.student, [pair.student.name for pair in setup.pairs])

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(super().open())
            stack.enter_context(self._student_taps)
            stack.enter_context(self._teacher)
            yield

    def look(self, batch: Batch) -> Look:
        return Look(batch, self._answers.boundaries(batch))

    def losses(self, look: Look) -> dict[str, Tensor]:
        student = Views(preacts=self._student_taps.until_last_tap(look.batch.images))
        losses: dict[str, Tensor] = self._method(student, look.teacher)
        return losses

    def evaluate(self) -> dict[str, float]:
        names = [f"boundary_similarity/{pair.teacher.name}" for pair in self._setup.pairs]
        return dict(zip(names, self.similarity(most_images=PROBE_IMAGES), strict=False))

    def begin(self) -> dict[str, Any]:
        _prepare(self._method, self._setup)
        return {"similarity_before": list(self.similarity())}

    def end(self) -> dict[str, Any]:
        return {"similarity_after": list(self.similarity())}

    def similarity(self, most_images: int | None = None) -> tuple[float, ...]:
        """Boundary similarity at each tap pair on the evaluation split; empty for a method without connectors.

        The phase must be open.
        """
        if not isinstance(self._method, ConnectedMethod):
            return ()
        connect = self._method.connect

        def student_maps(images_BCHW: Tensor) -> list[Tensor]:
            return connect(self._student_taps.until_last_tap(images_BCHW))

        with evaluating(self.trained, self._teacher.model):
            batches = self._setup.evaluation_batches(most_images=most_images)
            return measure_similarity(student_maps, self._answers.boundaries, batches)


class FinetunePhase(Phase):
    """Stage 2: the student learns the task, from labels, from the teacher's logits, or from both.

    A `method` that acts in this phase adds its losses. With `keep: best` the student ends with the weights of the epoch
    that was best on the evaluation split. `evaluation` is what the student, as it ends, came to on that split; None
    where another attempt measured it.
    """

    name = "finetune"

    def __init__(
        self, spec: Finetune, setup: Setup, answers: Answers | None, method: FeatureMethod | None = None
    ) -> None:
        parts = {"student": setup.student, "method": method, "transfer_head": setup.transfer_head}
        trained = {name: module for name, module in parts.items() if module is not None}
        super().__init__(spec, nn.ModuleDict(trained))
        self._spec = spec
        self._setup = setup
        self._answers = answers
        self._method = method
        self._head = setup.transfer_head
        self._needs_logits = spec.kd_weight > 0 or self._head is not None
        self.evaluation: Evaluation | None = None
        names = [pair.student.name for pair in setup.pairs] if method is not None else []
        self._student_taps = TapCapture(setup.student, names)

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(super().open())
            if self._head is not None:
                self._head.attach(stack)
            if self._method is not None:
                assert self._setup.teacher is not None, "a method needs a teacher"
                stack.enter_context(self._student_taps)
                stack.enter_context(self._setup.teacher)
            yield

    def look(self, batch: Batch) -> Look:
        mixture = mix(batch.images, mixup=self._spec.mixup, cutmix=self._spec.cutmix)
        if self._needs_image_gradients:
            mixture.images_BCHW.requires_grad_()
        seen = batch._replace(images=mixture.images_BCHW)
        return Look(seen, self._view(self._setup.teacher, seen), mixture)

    @property
    def repeats(self) -> bool:
        return not (self._spec.mixup or self._spec.cutmix or self._needs_image_gradients)

    def losses(self, look: Look) -> dict[str, Tensor]:
        spec, batch = self._spec, look.batch
        assert look.mixture is not None
        logits_BK = self._setup.student(batch.images)
        losses = {}
        if spec.cross_entropy_weight:
            loss = look.mixture.cross_entropy(logits_BK, batch.labels, label_smoothing=spec.label_smoothing)
            losses["cross_entropy"] = spec.cross_entropy_weight * loss
        return losses | self._teachers_losses(logits_BK, batch, look.teacher)

    @property
    def _needs_image_gradients(self) -> bool:
        return self._method is not None and self._method.needs_image_gradients

    def _view(self, teacher: Teacher | None, seen: Batch) -> Views:
        """Ask the teacher for no more than the losses need."""
        if teacher is None:
            return Views()
        if self._method is not None:
            return (teacher.everything if self._needs_logits else teacher.preacts)(seen.images)
        assert self._answers is not None
        return self._answers.logits(seen) if self._needs_logits else Views()

    def _teachers_losses(self, logits_BK: Tensor, seen: Batch, teacher: Views) -> dict[str, Tensor]:
        spec, losses = self._spec, {}
        if spec.kd_weight:
            assert teacher.logits is not None
            loss = distillation_loss(
                logits_BK,
                teacher.logits,
                temperature=spec.temperature,
                temperature_squared=spec.temperature_squared,
            )
            losses["kd"] = spec.kd_weight * loss
        if self._head is not None:
            assert teacher.logits is not None
            losses["dtl"] = spec.dtl_weight * dtl_loss(self._head(), teacher.logits)
        if self._method is not None:
            losses |= self._method(Views(preacts=self._student_taps.preacts, images=seen.images), teacher)
        return losses

    def evaluate(self) -> dict[str, float]:
        result = evaluate(self._setup.student, self._setup.evaluation_batches())
        figures = {
            "eval/top1": result.accuracy.top1,
            "eval/top5": result.accuracy.top5,
            "eval/loss": result.accuracy.loss,
        }
        if self._setup.teacher is not None and self._setup.same_classes:
            of_teacher = self._setup.evaluate_teacher(self._setup.dataset.evaluation_split)
            figures["eval/agreement"] = agreement(result.predictions, of_teacher.predictions)
        self._remember(result)
        return figures

    def _remember(self, result: Evaluation) -> None:
        is_best = result.accuracy.top1 > self.memory.get("top1", -1.0)
        if is_best or self._spec.keep == "last":
            self.evaluation = result
        if not is_best:
            self.memory["waited"] += 1
            return
        self.memory |= {"top1": result.accuracy.top1, "waited": 0}
        if self._spec.keep == "best":
            weights = {name: tensor.clone() for name, tensor in self._setup.student.state_dict().items()}
            self.memory["student"] = weights

    @property
    def has_settled(self) -> bool:
        """Whether there was no better top-1 in the last `patience` evaluations."""
        patience = self._spec.patience
        return patience is not None and self.memory.get("waited", 0) >= patience

    def begin(self) -> dict[str, Any]:
        if self._method is not None:
            _prepare(self._method, self._setup)
        return {}

    def end(self) -> dict[str, Any]:
        if "student" in self.memory:
            self._setup.student.load_state_dict(self.memory["student"])
        return {}


def build_phases(setup: Setup, choice: Choice) -> tuple[Phase, ...]:
    """Return the phases of a run's recipe, in order."""
    recipe = setup.run.recipe
    phases: list[Phase] = []
    if recipe.transfer is not None:
        assert setup.method is not None, "the recipe's method acts in transfer"
        assert choice.transfer is not None, "transfer needs a teacher"
        phases.append(TransferPhase(recipe.transfer, setup, setup.method, choice.transfer))
    if recipe.finetune is not None:
        joint = setup.method if recipe.method.phase == "finetune" else None
        phases.append(FinetunePhase(recipe.finetune, setup, choice.finetune, joint))
    return tuple(phases)


def _prepare(method: FeatureMethod, setup: Setup) -> None:
    assert setup.teacher is not None
    teacher = setup.teacher
    with evaluating(teacher.model):
        batches = setup.evaluation_batches("train", most_images=PROBE_IMAGES)
        method.prepare(teacher.preacts(batch.images) for batch in batches)
