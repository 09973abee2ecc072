"""The methods that compare feature maps, one a file; `build_method` makes one from its spec."""

from collections.abc import Sequence
from typing import assert_never

from abcore.methods.activation_boundary import BoundaryTransfer
from abcore.methods.attention import AttentionMatching
from abcore.methods.base import FeatureMethod
from abcore.methods.fitnets import HintTransfer
from abcore.methods.jacobian import JacobianMatching as JacobianMethod
from abcore.methods.overhaul import OverhaulMatching
from abcore.methods.response import ResponseTransfer
from abcore.methods.solution_flow import FlowTransfer
from abcore.specs.methods import (
    ActivationBoundary,
    AttentionTransfer,
    FitNets,
    FlowOfSolution,
    JacobianMatching,
    KnowledgeDistillation,
    Method,
    Overhaul,
    Response,
)
from abcore.specs.reports import TapPair


def build_method(spec: Method, pairs: Sequence[TapPair]) -> FeatureMethod | None:
    """Build what compares the maps of these tap pairs; None for `kd`, which compares logits only.

    Weights are drawn from torch's global random generator.

    Raises:
        Refusal: the method cannot compare these taps.
    """
    match spec:
        case ActivationBoundary():
            return BoundaryTransfer(spec, pairs)
        case Response():
            return ResponseTransfer(spec, pairs)
        case FitNets():
            return HintTransfer(spec, pairs)
        case AttentionTransfer():
            return AttentionMatching(spec, pairs)
        case FlowOfSolution():
            return FlowTransfer(spec, pairs)
        case JacobianMatching():
            return JacobianMethod(spec, pairs)
        case Overhaul():
            return OverhaulMatching(spec, pairs)
        case KnowledgeDistillation():
            return None
        case unknown:
            assert_never(unknown)
