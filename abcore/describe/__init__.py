"""What a network is and what a job would do, from specs alone: no weights, no data, nothing allocated."""

from abcore.describe.model import describe_model
from abcore.describe.plan import plan_distillation

__all__ = ["describe_model", "plan_distillation"]
