"""The losses of both phases, as pure functions of tensors.

Shapes: B batch, C channels, H height, W width, K classes. "The paper" is Heo, Lee, Yun, Choi, AAAI 2019,
arXiv 1811.03233. The teacher's side of a boundary is a boolean tensor, true where its pre-activation is above zero:
that is all the method asks of a teacher, so it can come from a forward pass or from a cache of bits.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class _ActivationBoundary(torch.autograd.Function):
    """With s = ±1 the teacher's side, the two branches of eq. 7 are one: relu(margin - s·x)².

    Only the pull p = min(s·x - margin, 0)·s is kept. The loss is the sum of its squares and the gradient 2·p, bit for
    bit that of the branches written out, because multiplying by ±1 and by 2 does not round.
    """

    @staticmethod
    def forward(ctx: Any, preact: Tensor, teacher_on: Tensor, margin: float) -> Tensor:
        fused = preact.is_cuda and preact.dtype != torch.float64
        pull = (_fused_pull if fused else _pull)(preact, teacher_on, margin)
        ctx.save_for_backward(pull)
        return _sum_of_squares(pull).div_(preact.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (pull,) = ctx.saved_tensors
        return pull * (gradient / pull.shape[0] * 2).to(pull.dtype), None, None


def _pull(preact: Tensor, teacher_on: Tensor, margin: float) -> Tensor:
    """Each line is one pass over a tap, most of them in place: on a CPU memory is what such a loss waits for."""
    # Arithmetic on bytes is fastest; and but for them there is one allocation, whose first use costs as a pass does.
    side = teacher_on.to(torch.int8).mul_(2).sub_(1)
    pull = side.to(preact.dtype).mul_(preact)
    return pull.sub_(margin).clamp_max_(0).mul_(side)


def _fused_pull(preact: Tensor, teacher_on: Tensor, margin: float) -> Tensor:
    """One kernel: on a GPU the start of each of the others takes as long as its work. Not a number stays not one."""
    pull: Tensor = _pull_kernel()(preact, teacher_on, margin=margin)
    return pull


@cache
def _pull_kernel() -> Callable[..., Tensor]:
    # torch's own way to an elementwise kernel: made by the CUDA runtime, it needs no compiler on the machine.
    kernel: Callable[..., Tensor] = torch.cuda.jiterator._create_jit_fn(
        """
        template <typename T> T pull(T x, T on, float margin) {
            float behind = on != T(0) ? float(x) - margin : float(x) + margin;
            bool far_enough = on != T(0) ? behind > 0.0f : behind < 0.0f;
            return far_enough ? T(0) : T(behind);
        }
        """,
        margin=0.0,
    )
    return kernel


def _sum_of_squares(values: Tensor) -> Tensor:
    # Image by image, a norm needs no squares in memory, and rounds less than one over all images would.
    dims = tuple(range(1, values.ndim))
    norms_B: Tensor = torch.linalg.vector_norm(values, dim=dims, dtype=accumulation_dtype(values.dtype))
    return norms_B.square_().sum()


def activation_boundary_loss(preact_BCHW: Tensor, teacher_on_BCHW: Tensor, margin: float) -> Tensor:
    """The activation-boundary loss (paper, eq. 7): squared shortfall behind the teacher's side of the margin.

    `(x + margin)²` where the teacher is off and x > -margin, `(x - margin)²` where it is on and x <= margin, else 0.

    Args:
        preact_BCHW: the student's pre-activation after the connector, any float dtype.
        teacher_on_BCHW: bool, true where the teacher's pre-activation is > 0.
        margin: µ of the paper, in units of the pre-activation.

    Returns:
        A scalar: summed over a tap's neurons, averaged over the batch. float32 for half-precision input.
    """
    if torch.compiler.is_compiling():
        # A compiler makes one kernel of the formula, and would make none of our own.
        side = teacher_on_BCHW.to(preact_BCHW.dtype) * 2 - 1
        shortfall = F.relu(margin - side * preact_BCHW).to(accumulation_dtype(preact_BCHW.dtype))
        return shortfall.square().sum() / len(preact_BCHW)
    return _ActivationBoundary.apply(preact_BCHW, teacher_on_BCHW, margin)  # type: ignore[no-any-return, no-untyped-call]  # torch's own gap


def boundary_similarity(preact_BCHW: Tensor, teacher_on_BCHW: Tensor) -> Tensor:
    """Share of neurons on the teacher's side of zero, in 0..1: one minus the activation transfer loss (paper, eq. 3).

    Args:
        preact_BCHW: the student's pre-activation after the connector.
        teacher_on_BCHW: bool, true where the teacher's pre-activation is > 0.

    Returns:
        A float64 scalar.
    """
    return ((preact_BCHW > 0) == teacher_on_BCHW).mean(dtype=torch.float64)


def distillation_loss(
    logits_BK: Tensor, teacher_logits_BK: Tensor, *, temperature: float, temperature_squared: bool
) -> Tensor:
    """Knowledge distillation (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2).

    The Kullback-Leibler divergence from the teacher's softened distribution to the student's, in nats: it differs
    from the soft cross-entropy by the teacher's entropy, a constant.

    Args:
        logits_BK: the student's.
        teacher_logits_BK: the teacher's; no gradient flows into them.
        temperature: both logits are divided by it.
        temperature_squared: multiply by T², so that the gradient's scale does not depend on T (ibid.).

    Returns:
        A float32 scalar (float64 for float64 input): summed over classes, averaged over the batch.
    """
    dtype = accumulation_dtype(logits_BK.dtype)
    divergence = F.kl_div(
        F.log_softmax(logits_BK / temperature, dim=1, dtype=dtype),
        F.log_softmax(teacher_logits_BK.detach() / temperature, dim=1, dtype=dtype),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2 if temperature_squared else divergence


def cross_entropy(logits_BK: Tensor, labels_B: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with labels (int64), in nats, averaged over the batch: a float32 scalar (float64 for float64).

    `label_smoothing` spreads that share of a label's probability over all classes (Szegedy et al. 2016, arXiv
    1512.00567, section 7).
    """
    logits_BK = logits_BK.to(accumulation_dtype(logits_BK.dtype))
    return F.cross_entropy(logits_BK, labels_B, label_smoothing=label_smoothing)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return what to sum values of `dtype` in: a sum over 100,000 neurons does not fit a bfloat16's 8-bit mantissa."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
