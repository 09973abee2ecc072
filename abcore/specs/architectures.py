"""Architectures as data: which network a teacher is and a student shall be."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from abcore.specs.base import Spec


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


class Torchvision(Spec):
    """A classification model of torchvision's zoo, by the name its constructor has there."""

    arch: Literal["torchvision"]
    name: str = Field(pattern=r"^[a-z0-9_]{3,40}$", examples=["resnet18", "mobilenet_v2"])
    stem: Literal["auto", "imagenet", "small"] = Field(
        default="auto",
        description="`small` keeps the resolution in the stem (3x3, stride 1, no max-pool), as is usual for images of "
        "up to 64 pixels; `auto` takes `small` for those and `imagenet` for larger ones.",
    )


Architecture = Annotated[WideResNet | Torchvision, Field(discriminator="arch")]


class ModelSpec(Spec):
    """All that is needed to build a network: its architecture, the image it takes, the classes it tells apart."""

    architecture: Architecture
    image: ImageShape
    num_classes: int = Field(ge=2, le=100_000, examples=[10])
