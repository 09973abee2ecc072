"""A sweep, a comparison, or a question about figures cannot be as it was asked."""

from abcore.specs.codes.code import Code

SWEEPS: dict[str, Code] = {
    "sweep.path": Code(
        "The path leads to no field of a job that can vary.",
        "Name a field of `allowed`, or one below it: `recipe.transfer.epochs` or `/recipe/transfer/epochs`.",
    ),
    "sweep.overlap": Code(
        "Two paths set the same field, or one sets a part of what the other sets.",
        "Keep one of them; list whole objects as values where several fields vary together.",
    ),
    "sweep.empty": Code("A field of the grid has no values.", "Give at least one, or leave the field out."),
    "sweep.repeated": Code(
        "The same values come twice.", "Remove one; to repeat a job by chance alone, vary `recipe.seed`."
    ),
    "sweep.too_many": Code(
        "The grid has more combinations than a sweep may have jobs.",
        "Give fewer values, or list the `points` that matter.",
    ),
    "compare.what": Code("It is not said what to compare, or twice.", "Give either `jobs` or `sweep`."),
    "compare.too_many": Code("More jobs than a comparison may have.", "Compare fewer, or a whole sweep."),
    "compare.job": Code(
        "There is no such distillation in the key's project.",
        "GET /v1/jobs lists those that there are; a `teacher.train` job has no student to compare.",
    ),
    "compare.sweep": Code(
        "There is no such sweep in the key's project.", "GET /v1/sweeps lists those that there are."
    ),
    "compare.split": Code("None of the jobs was measured on this split.", "Take one of `allowed`, or none."),
    "metrics.name": Code("The jobs have no figure of this name.", "Take one of `allowed`."),
    "metrics.range": Code("The range of steps ends before it begins.", "Give `from_step` below `to_step`."),
    "metrics.points": Code(
        "A curve that is thinned out comes whole, not in pages.",
        "Leave `cursor` and `limit` out with `points`.",
    ),
    "metrics.too_many": Code(
        "There are too many figures to thin out at once.", "Ask for one `name`, or for a range of steps."
    ),
}
