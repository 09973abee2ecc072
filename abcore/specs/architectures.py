"""Architectures as data: which network a teacher is and a student shall be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from abcore.specs.base import Spec
from abcore.specs.layers import Layers


class ImageShape(Spec):
    """The shape of one image: channels × height × width, in pixels."""

    channels: int = Field(ge=1, le=16, examples=[3])
    height: int = Field(ge=4, le=1024, examples=[32])
    width: int = Field(ge=4, le=1024, examples=[32])


class Normalization(Spec):
    """Per-channel `(pixel / 255 - mean) / std`; one entry a channel, in units of the [0, 1] pixel range."""

    mean: tuple[float, ...] = Field(min_length=1, max_length=16, examples=[[0.485, 0.456, 0.406]])
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, max_length=16, examples=[[0.229, 0.224, 0.225]]
    )

    @model_validator(mode="after")
    def _one_pair_a_channel(self) -> "Normalization":
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean has {len(self.mean)} entries and std {len(self.std)}: give one of each per channel"
            )
        return self


class WideResNet(Spec):
    """Wide residual network for small images (Zagoruyko and Komodakis 2016, arXiv 1605.07146): depth 6n+4."""

    arch: Literal["wide_resnet"]
    depth: int = Field(
        ge=10, le=100, examples=[16], description="Layers; 6n+4 for n blocks in each of 3 groups."
    )
    width: int = Field(
        ge=1, le=20, examples=[2], description="Widening factor: groups have 16w, 32w, 64w channels."
    )

    @model_validator(mode="after")
    def _depth_is_6n_plus_4(self) -> "WideResNet":
        if (self.depth - 4) % 6:
            below = self.depth - (self.depth - 4) % 6
            raise ValueError(
                f"a wide ResNet's depth is 6n+4; {self.depth} is not: use {below} or {below + 6}"
            )
        return self


class ResNetCifar(Spec):
    """Residual network for small images (He et al. 2016, arXiv 1512.03385, section 4.2): depth 6n+2.

    Width 4 gives the x4 networks of the distillation literature (Tian et al. 2020, arXiv 1910.10699).
    """

    arch: Literal["resnet_cifar"]
    depth: int = Field(
        ge=8, le=200, examples=[20], description="Layers; 6n+2 for n blocks in each of 3 stages."
    )
    width: int = Field(
        default=1,
        ge=1,
        le=16,
        description="Widening factor: stages have 16w, 32w, 64w channels, after a stem of 16 (width 1) or 32.",
    )
    shortcut: Literal["projection", "padding"] = Field(
        default="projection",
        description="Where a stage begins: a 1x1 convolution with batch norm, or zeros for the channels that are new, "
        "which costs no parameters (options B and A of the paper).",
    )

    @model_validator(mode="after")
    def _depth_is_6n_plus_2(self) -> "ResNetCifar":
        if (self.depth - 2) % 6:
            below = self.depth - (self.depth - 2) % 6
            raise ValueError(
                f"a CIFAR ResNet's depth is 6n+2; {self.depth} is not: use {below} or {below + 6}"
            )
        return self


Stem = Annotated[
    Literal["auto", "imagenet", "small"],
    Field(
        description="`small` keeps the resolution in the stem: the first two halvings are left out, as is usual for "
        "images of up to 64 pixels; `auto` takes `small` for those, where the model has such a stem, and `imagenet` "
        "otherwise."
    ),
]


class Torchvision(Spec):
    """A classification model of torchvision's zoo, by the name its constructor has there."""

    arch: Literal["torchvision"]
    name: str = Field(pattern=r"^[a-z0-9_]{3,40}$", examples=["resnet18", "mobilenet_v2"])
    stem: Stem = "auto"
    width_mult: float = Field(
        default=1.0,
        ge=0.1,
        le=4,
        description="Factor on all widths, rounded to multiples of 8; for mobilenet_v2 and mobilenet_v3_* only.",
    )


class Timm(Spec):
    """A model of the timm library, by the name that `timm.list_models()` has for it; never with pretrained weights.

    Needs the optional dependency: `pip install abdistill-server[timm]`.
    """

    arch: Literal["timm"]
    name: str = Field(pattern=r"^[a-z0-9_]{3,80}$", examples=["resnet26d", "efficientnet_b0"])
    stem: Stem = "auto"


class Auto(Spec):
    """The largest version of a family that stays within all given limits, for the image and classes of the dataset.

    Of the versions that fit, the one that comes closest to a limit. The answer to a description or a plan says which.
    """

    arch: Literal["auto"]
    family: Literal[
        "convnext",
        "densenet",
        "efficientnet",
        "mobilenet_v2",
        "mobilenet_v3",
        "mnasnet",
        "regnet_x",
        "regnet_y",
        "resnet",
        "resnet_cifar",
        "shufflenet_v2",
        "vgg_bn",
        "wide_resnet",
    ]
    max_params: int | None = Field(default=None, gt=0, description="Trainable parameters.")
    max_macs: int | None = Field(default=None, gt=0, description="Multiply-accumulates of one image.")
    max_size_bytes: int | None = Field(default=None, gt=0, description="Parameters and buffers in float32.")

    @model_validator(mode="after")
    def _has_a_limit(self) -> "Auto":
        if self.max_params is None and self.max_macs is None and self.max_size_bytes is None:
            raise ValueError("give at least one limit: max_params, max_macs or max_size_bytes")
        return self


class Ensemble(Spec):
    """Several networks that answer as one, by the mean of their probabilities; a teacher rather than a student.

    Its state dict has each member's names behind `members.0.`, `members.1.`, ... KD learns from all of them. Boundaries
    are those of the first member, where the recipe names no taps; `recipe.taps` may name those of all, and the
    student's once for each.
    """

    arch: Literal["ensemble"]
    members: tuple[
        Annotated[WideResNet | ResNetCifar | Torchvision | Timm | Layers, Field(discriminator="arch")], ...
    ] = Field(min_length=2, max_length=16, description="Any architectures but `auto` and `ensemble`.")


Architecture = Annotated[
    WideResNet | ResNetCifar | Torchvision | Timm | Layers | Ensemble | Auto, Field(discriminator="arch")
]


class ModelSpec(Spec):
    """All that is needed to build a network: its architecture, the image it takes, the classes it tells apart."""

    architecture: Architecture
    image: ImageShape
    num_classes: int = Field(ge=2, le=100_000, examples=[10])
