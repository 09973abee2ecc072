"""How a student is trained: phases, losses, optimizers, schedules, augmentation, all with recorded defaults."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from abcore.specs.base import Spec

PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Optimizer(Spec):
    """SGD with Nesterov momentum, or AdamW. Weight decay applies to weights of rank two and more."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0, le=10)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="For `sgd` only.")
    nesterov: bool = Field(default=True, description="For `sgd` only.")
    weight_decay: float = Field(default=5e-4, ge=0, le=1)


class Schedule(Spec):
    """The learning rate over a phase, set at each step."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    warmup_fraction: Fraction = Field(
        default=0.0, description="Share of the phase's steps with a linear rise from 0."
    )
    milestones: tuple[Fraction, ...] = Field(
        default=(0.3, 0.6, 0.8),
        description="For `step`: shares of the phase at which the rate is multiplied by gamma.",
    )
    gamma: PositiveFloat = Field(default=0.2, description="For `step`.")


class Augmentation(Spec):
    """Random crop after zero-padding, and a horizontal flip, drawn anew for each image and epoch."""

    crop_padding: int = Field(
        default=4, ge=0, le=64, description="Pixels added on each side before the crop; 0: none."
    )
    horizontal_flip: bool = True


class ActivationBoundary(Spec):
    """The activation-boundary loss (paper, eq. 7): relu(margin - s·x)², s = ±1 the side on which the teacher is."""

    name: Literal["ab"] = "ab"
    margin: float = Field(
        default=1.0, gt=0, le=1000, description="µ of the paper, in units of the pre-activation."
    )
    weight: float | None = Field(
        default=None,
        gt=0,
        description="Factor on the sum over a tap's neurons, averaged over the batch, times the tap's weight. Null: "
        "3/1000 × 16,384 / (neurons of the teacher's tap), so that a tap's share depends neither on resolution nor on "
        "width; for the WRN-22-4 of the paper's CIFAR setting (65,536, 32,768 and 16,384 neurons) that is exactly "
        "its 3/1000 with tap weights 1/4, 1/2, 1.",
    )
    tap_weights: tuple[PositiveFloat, ...] | None = Field(
        default=None,
        max_length=32,
        description="One a tap, shallow to deep. Null: with a `weight`, 1 for the deepest, halved each step up (the "
        "paper's 2^(i-n+1)); without, 1 for all, because the normalised weight halves them already.",
    )


class Taps(Spec):
    """Explicit tap points: pre-activation feature maps by module path, shallow to deep, `path` or `path#call`."""

    student: tuple[str, ...] = Field(min_length=1, max_length=32)
    teacher: tuple[str, ...] = Field(min_length=1, max_length=32)

    @model_validator(mode="after")
    def _pairs(self) -> "Taps":
        if len(self.student) != len(self.teacher):
            raise ValueError(
                f"{len(self.student)} student taps and {len(self.teacher)} teacher taps: taps are paired in order, "
                "give as many of one as of the other"
            )
        return self


class Transfer(Spec):
    """Phase `transfer`: the student learns the teacher's boundaries; labels are not used (paper, stage 1)."""

    epochs: int = Field(default=10, ge=1, le=10_000)
    batch_size: int = Field(default=128, ge=2, le=65_536)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()


class Finetune(Spec):
    """Phase `finetune`: the student learns the task by cross-entropy, by the teacher's logits (KD), or both."""

    epochs: int = Field(default=30, ge=1, le=10_000)
    batch_size: int = Field(default=128, ge=2, le=65_536)
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    cross_entropy_weight: float = Field(default=0.0, ge=0)
    kd_weight: float = Field(default=1.0, ge=0)
    temperature: float = Field(
        default=3.0, gt=0, le=100, description="T of KD (Hinton et al. 2015, arXiv 1503.02531)."
    )
    temperature_squared: bool = Field(
        default=True, description="Multiply the KD term by T², so that T leaves its gradient's scale alone."
    )

    @model_validator(mode="after")
    def _has_a_loss(self) -> "Finetune":
        if self.cross_entropy_weight == 0 and self.kd_weight == 0:
            raise ValueError("cross_entropy_weight and kd_weight are both 0: at least one must be above 0")
        return self


class Recipe(Spec):
    """Everything that decides which student comes out of a teacher and a dataset, the seed included."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    method: ActivationBoundary = ActivationBoundary()
    taps: Taps | None = Field(
        default=None, description="Null: found automatically, and paired shallow to deep."
    )
    transfer: Transfer | None = Transfer()
    finetune: Finetune | None = Finetune()
    augmentation: Augmentation = Augmentation()
    teacher_bn: Literal["eval", "train"] = Field(
        default="eval",
        description="Mode of the teacher's batch norms. `train` is what the paper's CIFAR code does (running "
        "statistics are left alone all the same); its signs differ from `eval` in 1 to 4 % of neurons.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="`bf16`: forward passes under autocast; weights and optimizer stay float32."
    )
    evaluate_every: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Epochs from one evaluation to the next; a phase's last is always evaluated.",
    )

    @model_validator(mode="after")
    def _has_a_phase(self) -> "Recipe":
        if self.transfer is None and self.finetune is None:
            raise ValueError("transfer and finetune are both null: at least one phase must be given")
        return self

    @property
    def needs_teacher(self) -> bool:
        """Whether any phase asks the teacher; false for a student trained alone on labels."""
        return self.transfer is not None or (self.finetune is not None and self.finetune.kd_weight > 0)
