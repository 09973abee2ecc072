"""How a run computes: what is left open by a recipe, and decided and written down when a run begins."""

from typing import Literal

from pydantic import Field

from abcore.specs.base import Spec

Precision = Literal["fp32", "bf16"]
MemoryFormat = Literal["contiguous", "channels_last"]


class Computation(Spec):
    """How a run computes. A recipe with these two instead of `auto` repeats it wherever others would be chosen."""

    precision: Precision = Field(
        description="Of forward passes in training; weights and optimizer are float32."
    )
    memory_format: MemoryFormat = Field(description="How images, maps and weights lie in memory.")
    why: str = Field(description="Where the choice comes from, in a sentence.")
