"""The two phases of a distillation: from a batch to named losses. The loop that runs them knows neither."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar

from torch import Tensor, nn

from abcore.evaluate import agreement, evaluate, evaluating, measure_similarity
from abcore.events import PhaseName
from abcore.losses import cross_entropy, distillation_loss
from abcore.methods.activation_boundary import BoundaryTransfer
from abcore.setup import Setup
from abcore.specs.recipes import Finetune, Transfer
from abcore.taps import TapCapture
from abcore.views import Views

PROBE_IMAGES = 2048
"""Images on which boundary similarity is followed from epoch to epoch; before and after a phase all are taken."""


class Phase(ABC):
    """A part of training with its own losses, optimizer and schedule. `trained` holds all modules that it trains."""

    name: ClassVar[PhaseName]

    def __init__(self, spec: Transfer | Finetune, trained: nn.ModuleDict) -> None:
        self.spec = spec
        self.trained = trained

    @contextmanager
    def open(self) -> Iterator[None]:
        """What must be in place while the phase runs: hooks, modules in training mode."""
        self.trained.train()
        yield

    @abstractmethod
    def losses(self, images_BCHW: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        """Return the weighted losses of one batch, scalars, by name. Their sum is what is minimised."""

    @abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Return what shall be followed from epoch to epoch, measured on held-out images. Draws no random number."""

    def begin(self) -> dict[str, Any]:
        """Return what to remember from before the phase."""
        return {}

    def end(self) -> dict[str, Any]:
        """Return what to remember from after the phase."""
        return {}


class TransferPhase(Phase):
    """Stage 1 of the paper: the student's body learns the teacher's boundaries. Its head is not even computed."""

    name = "transfer"

    def __init__(self, spec: Transfer, setup: Setup, method: BoundaryTransfer) -> None:
        assert setup.teacher is not None, "transfer needs a teacher"
        super().__init__(spec, nn.ModuleDict({"student": setup.student, "method": method}))
        self._setup = setup
        self._teacher = setup.teacher
        self._method = method
        self._student_taps = TapCapture(setup.student, [pair.student.name for pair in setup.pairs])

    @contextmanager
    def open(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(super().open())
            stack.enter_context(self._student_taps)
            stack.enter_context(self._teacher)
            yield

    def losses(self, images_BCHW: Tensor, labels_B: Tensor) -> dict[str, Tensor]:  # noqa: ARG002  # labels are not used
        student = Views(preacts=self._student_taps.until_last_tap(images_BCHW))
        losses: dict[str, Tensor] = self._method(student, self._teacher.preacts(images_BCHW))
        return losses

    def evaluate(self) -> dict[str, float]:
        similarities = self.similarity(most_images=PROBE_IMAGES)
        named = zip(self._setup.pairs, similarities, strict=True)
        return {f"boundary_similarity/{pair.teacher.name}": similarity for pair, similarity in named}

    def begin(self) -> dict[str, Any]:
        return {"similarity_before": list(self.similarity())}

    def end(self) -> dict[str, Any]:
        return {"similarity_after": list(self.similarity())}

    def similarity(self, most_images: int | None = None) -> tuple[float, ...]:
        """Boundary similarity at each tap pair on the evaluation split. The phase must be open."""

        def student_maps(images_BCHW: Tensor) -> list[Tensor]:
            return self._method.connect(self._student_taps.until_last_tap(images_BCHW))

        with evaluating(self.trained, self._teacher.model):
            batches = self._setup.evaluation_batches(most_images=most_images)
            return measure_similarity(student_maps, self._teacher.preacts, batches)


class FinetunePhase(Phase):
    """Stage 2: the student learns the task, from labels, from the teacher's logits, or from both."""

    name = "finetune"

    def __init__(self, spec: Finetune, setup: Setup) -> None:
        super().__init__(spec, nn.ModuleDict({"student": setup.student}))
        self._spec = spec
        self._setup = setup
        self._teacher_predictions_N: Tensor | None = None

    def losses(self, images_BCHW: Tensor, labels_B: Tensor) -> dict[str, Tensor]:
        spec, losses = self._spec, {}
        logits_BK = self._setup.student(images_BCHW)
        if spec.cross_entropy_weight:
            losses["cross_entropy"] = spec.cross_entropy_weight * cross_entropy(logits_BK, labels_B)
        if spec.kd_weight:
            assert self._setup.teacher is not None, "KD needs a teacher"
            losses["kd"] = spec.kd_weight * distillation_loss(
                logits_BK,
                self._setup.teacher.logits(images_BCHW),
                temperature=spec.temperature,
                temperature_squared=spec.temperature_squared,
            )
        return losses

    def evaluate(self) -> dict[str, float]:
        result = evaluate(self._setup.student, self._setup.evaluation_batches())
        figures = {
            "eval/top1": result.accuracy.top1,
            "eval/top5": result.accuracy.top5,
            "eval/loss": result.accuracy.loss,
        }
        if self._setup.teacher is not None:
            if self._teacher_predictions_N is None:
                batches = self._setup.evaluation_batches()
                self._teacher_predictions_N = evaluate(self._setup.teacher.model, batches).predictions
            figures["eval/agreement"] = agreement(result.predictions, self._teacher_predictions_N)
        return figures


def build_phases(setup: Setup) -> tuple[Phase, ...]:
    """Return the phases of a run's recipe, in order."""
    recipe = setup.run.recipe
    phases: list[Phase] = []
    if recipe.transfer is not None:
        assert setup.method is not None
        phases.append(TransferPhase(recipe.transfer, setup, setup.method))
    if recipe.finetune is not None:
        phases.append(FinetunePhase(recipe.finetune, setup))
    return tuple(phases)
