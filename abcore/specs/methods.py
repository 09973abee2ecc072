"""What a student learns from a teacher's feature maps: the paper's method and those that it is compared with.

Each says in which phase its loss acts. `transfer`: it prepares the student's body, and the task is learnt afterwards,
in `finetune`. `finetune`: it is added to the losses of the task. `kd` uses no feature maps at all: only logits.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from abcore.specs.base import Spec

PositiveFloat = Annotated[float, Field(gt=0)]
TapWeights = Annotated[
    tuple[PositiveFloat, ...] | None,
    Field(
        max_length=32,
        description="One a tap, shallow to deep. Null: with a `weight`, 1 for the deepest, halved each step up (the "
        "paper's 2^(i-n+1)); without, 1 for all, because the normalised weight halves them already.",
    ),
]
NormalisedWeight = Annotated[
    float | None,
    Field(
        gt=0,
        description="Factor on the sum over a tap's neurons, averaged over the batch, times the tap's weight. Null: "
        "3/1000 × 16,384 / (neurons of the teacher's tap), so that a tap's share depends neither on resolution nor on "
        "width; for the WRN-22-4 of the paper's CIFAR setting (65,536, 32,768 and 16,384 neurons) that is exactly "
        "its 3/1000 with tap weights 1/4, 1/2, 1.",
    ),
]
ConnectorChoice = Annotated[
    Literal["always", "where_needed"],
    Field(
        description="`always`: a 1x1 convolution and batch norm at every tap pair. `where_needed`: only where channels "
        "differ; the paper's CIFAR code leaves them out for a student of the teacher's width."
    ),
]


class ActivationBoundary(Spec):
    """Activation boundaries (Heo et al. 2019, arXiv 1811.03233, eq. 7): relu(margin - s·x)², s = ±1 the teacher's."""

    phase: ClassVar[Literal["transfer"]] = "transfer"
    name: Literal["ab"] = "ab"
    margin: float = Field(
        default=1.0, gt=0, le=1000, description="µ of the paper, in units of the pre-activation."
    )
    weight: NormalisedWeight = None
    tap_weights: TapWeights = None
    connector: ConnectorChoice = "always"


class Response(Spec):
    """Responses, what the paper compares its boundaries with (ibid., eq. 1 for p = 2): Σ |σ(t) - σ(x)|^p."""

    phase: ClassVar[Literal["transfer"]] = "transfer"
    name: Literal["response"] = "response"
    power: Literal["2", "1", "0.5"] = Field(default="2", description="p: l2, l1 and l0.5 of the paper.")
    rectified: bool = Field(
        default=True, description="σ is ReLU; false: pre-activations are compared as they are."
    )
    weight: NormalisedWeight = None
    tap_weights: TapWeights = None
    connector: ConnectorChoice = "always"


class KnowledgeDistillation(Spec):
    """Logits only (Hinton et al. 2015, arXiv 1503.02531); `finetune` has its weight and temperature."""

    phase: ClassVar[None] = None
    name: Literal["kd"] = "kd"


class FitNets(Spec):
    """Hints (Romero et al. 2015, arXiv 1412.6550, eq. 3): ½ ‖hint - regressor(guided)‖² at one middle pair of taps.

    The regressor is a 1x1 convolution with bias. Where resolutions differ the map is resized; the published regressor
    has a larger kernel there.
    """

    phase: ClassVar[Literal["transfer"]] = "transfer"
    name: Literal["fitnets"] = "fitnets"
    weight: float | None = Field(
        default=None,
        gt=0,
        description="Factor on ½ the sum of squares, averaged over the batch; 1 in the publication. Null: the weight "
        "of `ab` at that tap, with which the learning rate of `ab` suits it too.",
    )


class AttentionTransfer(Spec):
    """Spatial attention (Zagoruyko and Komodakis 2017, arXiv 1612.03928, eq. 2): β/2 Σ ‖q(x) - q(t)‖².

    q is the sum over channels of the squared responses, scaled to norm 1.
    """

    phase: ClassVar[Literal["finetune"]] = "finetune"
    name: Literal["at"] = "at"
    beta: float = Field(
        default=1000.0,
        gt=0,
        description="β, with squares averaged over batch and pixels (ibid., section 4.1: 10³ / (pixels × batch)).",
    )


class FlowOfSolution(Spec):
    """FSP matrices (Yim et al. 2017, CVPR, eq. 1 and 2): products of two successive taps' maps, averaged over pixels.

    Asks student and teacher for the same channels at paired taps.
    """

    phase: ClassVar[Literal["transfer"]] = "transfer"
    name: Literal["fsp"] = "fsp"
    weight: float = Field(
        default=1.0,
        gt=0,
        description="λ of the publication, the same for all pairs of taps; its value is not given.",
    )


class JacobianMatching(Spec):
    """Input gradients (Srinivas and Fleuret 2018, arXiv 1803.00443, section 4): of attention maps' largest elements.

    At each tap the gradient of the attention map's largest element by the image, scaled to norm 1, is compared with the
    teacher's, and the attention maps themselves are compared as in `at`. A step costs about three times one of `at`.
    """

    phase: ClassVar[Literal["finetune"]] = "finetune"
    name: Literal["jacobian"] = "jacobian"
    weight: float = Field(
        default=1.0,
        gt=0,
        description="Factor on the squared differences of gradients, summed over pixels and averaged over the batch; "
        "its published value is not given.",
    )
    beta: float = Field(default=1000.0, gt=0, description="β of the attention maps, as in `at`.")


class Overhaul(Spec):
    """OFD (Heo et al. 2019, arXiv 1904.01866): partial squared distance of pre-activations to a margin ReLU."""

    phase: ClassVar[Literal["finetune"]] = "finetune"
    name: Literal["ofd"] = "ofd"
    weight: float = Field(
        default=1 / 1000,
        gt=0,
        description="Factor on the sum over a tap's neurons, averaged over the batch; 1/1000 in its CIFAR-100 setting. "
        "The deepest tap counts once, and each step up half as much.",
    )


Method = Annotated[
    ActivationBoundary
    | Response
    | KnowledgeDistillation
    | FitNets
    | AttentionTransfer
    | FlowOfSolution
    | JacobianMatching
    | Overhaul,
    Field(discriminator="name"),
]

MethodName = Literal["ab", "response", "kd", "fitnets", "at", "fsp", "jacobian", "ofd"]
TRANSFER_METHODS = frozenset({"ab", "response", "fitnets", "fsp"})
"""Names of the methods that act in the transfer phase."""
