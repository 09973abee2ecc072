"""What is asked for cannot work: no such network, no taps to pair, a recipe that contradicts its job.

Told by the answer to the request, before anything is queued; by a job only what its weights or images show.
"""

from abcore.specs.codes.code import Code

SPECS: dict[str, Code] = {
    # networks
    "architecture.unknown": Code(
        "The zoo has no classification model of this name.", "`allowed` lists the nearest names."
    ),
    "architecture.unavailable": Code(
        "The library that has this family is not installed on the server.",
        "Take another family, or let the operator install `abdistill-server[timm]`.",
    ),
    "architecture.image": Code(
        "The network cannot take images of this size.",
        "Use larger images, or an architecture that reduces the resolution less often.",
    ),
    "architecture.width": Code(
        "This model has no width factor.", "Leave `width_mult` out, or take a MobileNet."
    ),
    "architecture.no_small_stem": Code(
        "The model has no convolutional stem that could keep small images' resolution.", "Leave `stem` out."
    ),
    "architecture.limits": Code(
        "No network of the family stays within the limits that `auto` was given.",
        "Raise the limit, or take another family.",
    ),
    "architecture.too_large": Code(
        "The network has more parameters, multiply-accumulates or activations than this service accepts.",
        "Make it narrower or less deep, or use smaller images.",
    ),
    "outputs.unavailable": Code(
        "The service lacks the libraries that make this output.",
        "Ask for one of `allowed`, or let the operator install `abdistill-server[export]`.",
    ),
    "layers.name": Code(
        "Two layers have one name, or one has a name that is taken.",
        "Give each layer a name of its own, or none.",
    ),
    "layers.shape": Code(
        "A layer cannot take what the one before it gives.", "The message names the layer and both shapes."
    ),
    # taps
    "taps.none": Code(
        "No tap points were found by themselves in one of the two networks.",
        "Name taps in recipe.taps, take another architecture, or set recipe.transfer to null.",
    ),
    "taps.not_found": Code("The network has no tap point of this name.", "`allowed` lists near names."),
    "taps.ambiguous": Code(
        "The activation is called several times in a forward pass.", "Say which call: NAME#0 is the first."
    ),
    "taps.order": Code(
        "Taps are not listed from shallow to deep.", "Order them: the deepest weighs most in the loss."
    ),
    "taps.not_a_map": Code(
        "What lies at the tap is no feature map of the image.",
        "Take a tap of shape channels x height x width.",
    ),
    "taps.not_reached": Code(
        "The forward pass does not come to this tap.", "Take another tap: GET /v1/jobs/{id} shows the plan's."
    ),
    "taps.post_activation": Code(
        "The tap lies after an activation: it is never negative, and has no boundary at zero.",
        "Name the activation that comes before it: a tap is what an activation reads.",
    ),
    # recipes
    "plan.images": Code(
        "Student and teacher take images of different shapes; both see the same batches.",
        "Use a dataset of the teacher's image shape, or a teacher of the dataset's.",
    ),
    "plan.classes": Code(
        "Student and teacher tell different numbers of classes apart, and KD compares logits class by class.",
        "Set kd_weight to 0 and cross_entropy_weight above 0, or use a dataset of the teacher's classes.",
    ),
    "plan.tap_weights": Code(
        "There are more or fewer tap weights than pairs of taps.",
        "Give one weight a pair, shallow to deep; or none.",
    ),
    "fsp.one_tap": Code(
        "FSP compares successive taps, and there is only one pair.", "Name two taps or more in recipe.taps."
    ),
    "fsp.channels": Code(
        "FSP compares matrices of channels, and the two taps have different numbers of them.",
        "Take a student of the teacher's width, or another method.",
    ),
    "teacher_source.impossible": Code(
        "The teacher's answers cannot be kept: the recipe compares what depends on more than the image.",
        "Take `teacher_source` `auto` or `online`.",
    ),
    "dtl.no_classifier": Code(
        "DTL puts a second head beside the student's last linear layer, and it has none.",
        "Set dtl_weight to 0, or take a student that ends in a linear layer.",
    ),
    "recipe.needs_teacher": Code(
        "The recipe asks a teacher where there is none.",
        "Name a teacher, or learn from labels alone: transfer null, kd_weight 0, dtl_weight 0, cross_entropy_weight 1.",
    ),
    # what does not fit together
    "teacher.required": Code(
        "The recipe asks a teacher, and the job names none.",
        "Name a teacher; or train the student alone: recipe.transfer null, recipe.finetune.kd_weight 0, "
        "recipe.finetune.cross_entropy_weight 1.",
    ),
    "teacher.classes": Code(
        "The teacher tells other numbers of classes apart than the dataset has.",
        "Use a teacher of the dataset's classes; or learn its boundaries only: recipe.finetune.kd_weight 0.",
    ),
    "teacher.image": Code(
        "The teacher takes images of another shape than the dataset's.",
        "Create the dataset again with `image_size`.",
    ),
    "teacher.auto": Code(
        "A teacher is a network that exists; `auto` is for students.",
        "Name the architecture that the checkpoint was trained with.",
    ),
    "teacher.normalization": Code(
        "The normalization has another number of entries than images have channels.",
        "Give one mean and one deviation a channel.",
    ),
    "ensemble.nested": Code("A member of the ensemble is an ensemble itself.", "Name its members instead."),
    "ensemble.mismatch": Code(
        "The members see different images, scale them differently, or tell different classes apart.",
        "Combine teachers of the same images, normalization and classes.",
    ),
}
