"""How a student is trained: phases, losses, optimizers, schedules, augmentation, all with recorded defaults."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from abcore.specs.base import Spec
from abcore.specs.methods import TRANSFER_METHODS, ActivationBoundary, Method, PositiveFloat

AUTO_VIEWS = 8
"""As good as fresh ones (docs/experiments.md), and the teacher sees the data 8 times at most."""
Fraction = Annotated[float, Field(ge=0, le=1)]


class Optimizer(Spec):
    """SGD with Nesterov momentum, or AdamW. Weight decay applies to weights of rank two and more."""

    name: Literal["sgd", "adamw"] = Field(default="sgd", description="Which rule turns gradients into steps.")
    learning_rate: float = Field(
        default=0.1, gt=0, le=10, description="Highest rate of the phase. 0.1 is the paper's, for `sgd`."
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="For `sgd` only. The paper's.")
    nesterov: bool = Field(default=True, description="For `sgd` only. The paper's.")
    weight_decay: float = Field(
        default=5e-4, ge=0, le=1, description="The paper's for CIFAR; decoupled from the rate for `adamw`."
    )


class Schedule(Spec):
    """The learning rate over a phase, set at each step."""

    name: Literal["constant", "cosine", "step"] = Field(
        default="cosine",
        description="`cosine` falls to 0 (Loshchilov and Hutter 2017, arXiv 1608.03983); the paper: `constant` in "
        "transfer, `step` in finetune.",
    )
    warmup_fraction: Fraction = Field(
        default=0.0, description="Share of the phase's steps with a linear rise from 0."
    )
    milestones: tuple[Fraction, ...] = Field(
        default=(0.3, 0.6, 0.8),
        max_length=32,
        description="For `step`: shares of the phase at which the rate is multiplied by gamma. The paper's.",
    )
    gamma: PositiveFloat = Field(default=0.2, description="For `step`. The paper's.")


class Augmentation(Spec):
    """Random crop after zero-padding, and a horizontal flip, drawn anew for each image and view."""

    crop_padding: int = Field(
        default=4, ge=0, le=64, description="Pixels added on each side before the crop; 0: none."
    )
    horizontal_flip: bool = Field(
        default=True, description="Mirror half of the images; not for digits or text, which it changes."
    )
    views: Annotated[int, Field(ge=1, le=10_000)] | Literal["auto", "fresh"] = Field(
        default="auto",
        description="Views an image has, taken in turn, one an epoch, over all phases: what the teacher says of a "
        "view need be computed only once. `fresh`: a new view in every epoch, as in the paper. "
        f"`auto`: {AUTO_VIEWS} where the teacher's answers can be cached, else fresh.",
    )
    view_seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Of the views. Null: the recipe's seed. Runs that differ in their seeds can share what the teacher "
        "says if they have the same view seed.",
    )

    @property
    def moves(self) -> bool:
        """Whether a view differs from the image."""
        return bool(self.crop_padding) or self.horizontal_flip


TapName = Annotated[str, Field(min_length=1, max_length=300)]


class Taps(Spec):
    """Explicit tap points: pre-activation feature maps by module path, shallow to deep, `path` or `path#call`."""

    student: tuple[TapName, ...] = Field(min_length=1, max_length=32, description="Names in the student.")
    teacher: tuple[TapName, ...] = Field(
        min_length=1, max_length=32, description="Names in the teacher, as many; paired in order."
    )

    @model_validator(mode="after")
    def _pairs(self) -> "Taps":
        if len(self.student) != len(self.teacher):
            raise ValueError(
                f"{len(self.student)} student taps and {len(self.teacher)} teacher taps: taps are paired in order, "
                "give as many of one as of the other"
            )
        return self


def num_batches(num_images: int, batch_size: int) -> int:
    """Return the batches of one epoch; fewer images than `batch_size` are one batch.

    The incomplete last one is dropped: batch norm has nothing to measure on a remainder of one image.
    """
    return max(1, num_images // batch_size)


class Transfer(Spec):
    """Phase `transfer`: the student learns the teacher's boundaries; labels are not used (paper, stage 1)."""

    epochs: int = Field(default=10, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=128, ge=2, le=65_536, description="Images a step. The paper's for CIFAR.")
    optimizer: Optimizer = Field(default=Optimizer(), description="See Optimizer.")
    schedule: Schedule = Field(default=Schedule(), description="See Schedule.")


class Finetune(Spec):
    """Phase `finetune`: the student learns the task by cross-entropy, by the teacher's logits (KD), or both."""

    epochs: int = Field(default=30, ge=1, le=10_000, description="Passes over the training split.")
    batch_size: int = Field(default=128, ge=2, le=65_536, description="Images a step. The paper's for CIFAR.")
    optimizer: Optimizer = Field(default=Optimizer(), description="See Optimizer.")
    schedule: Schedule = Field(default=Schedule(), description="See Schedule.")
    cross_entropy_weight: float = Field(
        default=0.0, ge=0, description="Factor on the cross-entropy with labels; 0 in the paper's CIFAR code."
    )
    label_smoothing: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of a label's probability spread over all classes, for the cross-entropy (Szegedy et al. "
        "2016, arXiv 1512.00567, section 7).",
    )
    kd_weight: float = Field(
        default=1.0, ge=0, description="Factor on KD with the teacher's logits (arXiv 1503.02531)."
    )
    temperature: float = Field(
        default=3.0, gt=0, le=100, description="T of KD (Hinton et al. 2015, arXiv 1503.02531)."
    )
    temperature_squared: bool = Field(
        default=True, description="Multiply the KD term by T², so that T leaves its gradient's scale alone."
    )

    dtl_weight: float = Field(
        default=0.0,
        ge=0,
        description="Factor on DTL, for a teacher of other classes than the dataset's: the mean squared difference "
        "between its centred logits and those of an extra head of the student, which is thrown away at the end. 10 in "
        "the paper's transfer-learning code.",
    )
    mixup: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="α of mixup (Zhang et al. 2018, arXiv 1710.09412): pairs of images and their labels are mixed by a "
        "share drawn from Beta(α, α). 0: never.",
    )
    cutmix: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="α of CutMix (Yun et al. 2019, arXiv 1905.04899): a rectangle whose share of the image is drawn "
        "from Beta(α, α) comes from another image. 0: never. With mixup, either is taken half of the time.",
    )
    keep: Literal["last", "best"] = Field(
        default="last",
        description="Which epoch's weights the student has: the last, or the one with the best top-1 on the evaluation "
        "split. Where that is the test split, `best` looks at the answers.",
    )

    patience: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Evaluations in a row without a better top-1 on the evaluation split after which the phase ends, "
        "early. Null: never. The schedule is that of all epochs. Where that split is the test split, this looks at the "
        "answers, as `keep: best` does.",
    )

    @model_validator(mode="after")
    def _has_a_loss(self) -> "Finetune":
        if self.cross_entropy_weight == 0 and self.kd_weight == 0:
            raise ValueError("cross_entropy_weight and kd_weight are both 0: at least one must be above 0")
        return self


class Recipe(Spec):
    """Everything that decides which student comes out of a teacher and a dataset, the seed included."""

    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        description="Of weights, order and augmentation; the same seed, the same student.",
    )
    # Factories: generators of clients stumble over an object as the default of one of several types.
    method: Method = Field(
        default_factory=ActivationBoundary,
        description="What is learnt from the teacher's feature maps; see the methods. Left out or nameless: `ab`.",
    )
    taps: Taps | None = Field(
        default=None, description="Null: found automatically, and paired shallow to deep."
    )
    transfer: Transfer | None = Field(
        default_factory=Transfer,
        description="Left out: as `{}`, but null for a method that acts in `finetune` or not at all.",
    )
    finetune: Finetune | None = Field(
        default_factory=Finetune,
        description="Left out: as `{}`. Null: the student's head stays untrained.",
    )
    augmentation: Augmentation = Field(default=Augmentation(), description="See Augmentation.")
    teacher_bn: Literal["eval", "train"] = Field(
        default="eval",
        description="Mode of the teacher's batch norms. `train` is what the paper's CIFAR code does (running "
        "statistics are left alone all the same); its signs differ from `eval` in 1 to 4 % of neurons.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Of forward passes in training, the teacher's too; weights and optimizer stay float32. `auto`: "
        "bf16 for `ab` and `kd` where it is clearly faster, measured on the student at the start of a long run and "
        "written down in `run.started` and the report, else fp32. `bf16`, which is autocast, moves 1 % of a teacher's "
        "signs or so.",
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        default="auto",
        description="How maps lie in memory: it changes speed and last bits. `auto`: measured, as `precision`.",
    )
    compile: bool = Field(
        default=False,
        description="Have `torch.compile` make the kernels of each phase's steps, before its first one: that takes "
        "half a minute and more and a C++ compiler on the worker, and is worth it for a long run on a GPU. It "
        "changes last bits. A phase that cannot be compiled trains as it is, and an event says why; "
        "over several devices nothing is compiled.",
    )
    teacher_source: Literal["auto", "cached", "online"] = Field(
        default="auto",
        description="Where the teacher's answers to augmented images come from. `cached`: it is asked once about "
        "each view, boundaries are kept as bits and logits as float32, for later epochs and later jobs. `online`: it "
        "is asked at every step. `auto`: cached where views come again, the files fit, and no loss needs more.",
    )
    evaluate_every: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="Epochs from one evaluation to the next; a phase's last is always evaluated.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_what_the_method_implies(cls, fields: Any) -> Any:
        """A method without a name is `ab`; one that does not act in `transfer` has none unless it is asked for."""
        if not isinstance(fields, dict) or "method" not in fields:
            return fields
        method = fields["method"]
        if isinstance(method, dict):
            method = {"name": "ab", **method}
        name = method["name"] if isinstance(method, dict) else getattr(method, "name", "ab")
        filled = {**fields, "method": method}
        # A name that is no text is the union's to refuse.
        return (
            filled if not isinstance(name, str) or name in TRANSFER_METHODS else {"transfer": None, **filled}
        )

    @model_validator(mode="after")
    def _has_a_phase(self) -> "Recipe":
        if self.transfer is None and self.finetune is None:
            raise ValueError("transfer and finetune are both null: at least one phase must be given")
        if self.transfer is not None and self.method.phase != "transfer":
            raise ValueError(
                f"method {self.method.name} does nothing in the transfer phase: set transfer to null"
            )
        return self

    @model_validator(mode="after")
    def _can_be_cached(self) -> "Recipe":
        if self.teacher_source == "cached" and self.teacher_bn == "train":
            raise ValueError(
                "teacher_source cached and teacher_bn train: in training mode what a teacher says of an image depends "
                "on the rest of its batch; set teacher_bn to eval, or teacher_source to online"
            )
        return self

    @property
    def signs_suffice(self) -> bool:
        """Whether of the teacher's maps no phase needs more than the signs, and these depend on the image alone."""
        return self.transfer is not None and self.method.name == "ab" and self.teacher_bn == "eval"

    @property
    def logits_recur(self) -> bool:
        """Whether finetune asks the teacher for logits, for nothing else, and of images that come again."""
        finetune = self.finetune
        return (
            finetune is not None
            and (finetune.kd_weight > 0 or finetune.dtl_weight > 0)
            and not (finetune.mixup or finetune.cutmix)
            and self.method.phase != "finetune"
            and self.teacher_bn == "eval"
        )

    @property
    def answers_recur(self) -> bool:
        """Whether anything that the teacher says can be kept."""
        return self.signs_suffice or self.logits_recur

    @property
    def num_views(self) -> int | None:
        """Views that an image has in training; None: a new one in every epoch."""
        if not self.augmentation.moves:
            return 1
        if self.augmentation.views == "auto":
            cacheable = self.teacher_source != "online" and self.answers_recur
            return AUTO_VIEWS if cacheable else None
        return None if self.augmentation.views == "fresh" else self.augmentation.views

    def view_number(self, epoch: int) -> int:
        """Which view an epoch shows; epochs count over all phases."""
        return epoch if self.num_views is None else epoch % self.num_views

    @property
    def view_seed(self) -> int:
        """What the views are drawn from."""
        own = self.augmentation.view_seed
        return self.seed if own is None else own

    @property
    def compares_taps(self) -> bool:
        """Whether feature maps of student and teacher are compared in any phase."""
        return self.transfer is not None or self.method.phase == "finetune"

    @property
    def needs_teacher(self) -> bool:
        """Whether any phase asks the teacher; false for a student trained alone on labels."""
        finetune = self.finetune
        return self.compares_taps or (
            finetune is not None and (finetune.kd_weight > 0 or finetune.dtl_weight > 0)
        )
