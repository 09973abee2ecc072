"""A job did not succeed: `problems` of a job that `failed`, and of the events on its way there."""

from abcore.specs.codes.code import Code

_LOG = "The job's log.txt, among its artifacts, shows how it ended; three crashes without progress end it."

JOBS: dict[str, Code] = {
    "training.diverged": Code(
        "The loss was no longer finite.", "Take a lower learning rate or a warm-up; with `bf16`, try `fp32`."
    ),
    "evaluation.not_finite": Code(
        "The network's logits are not finite on held-out images.",
        "A student: lower the learning rate. A teacher: its checkpoint or its normalization is wrong.",
    ),
    "export.failed": Code(
        "A file of the student could not be made, or does not compute what the student computes.",
        "Name the format in outputs.formats only, and the job keeps what can be made.",
    ),
    "job.crashed": Code(
        "The job crashed three times without getting further.",
        "`value` holds the last lines of its log; mend that, and retry it.",
    ),
    "job.max_runtime": Code(
        "The job ran for its max_runtime_seconds, over all attempts, and was stopped.",
        "Its last checkpoint is kept among its artifacts; run it again with a larger max_runtime_seconds.",
    ),
    "child.crashed": Code("The job's process ended by itself.", _LOG),
    "child.stalled": Code(
        "The job's process got no further for `ABDISTILL_STALL_SECONDS`, and was ended.",
        "The problem's value and the log end with the stack of each of its threads: where it hung. The job is tried "
        "again once.",
    ),
    "child.out_of_memory": Code(
        "There was too little memory for the job's process, even for the smallest part of a batch.",
        "Nothing at first: the next attempt computes batches in smaller parts. A smaller student, teacher or "
        "batch_size needs less.",
    ),
    "child.killed": Code("The job's process was killed, perhaps for lack of memory.", _LOG),
    "child.protocol": Code("The job's process wrote what no job writes.", _LOG),
    "child.bad_result": Code("The job's process left files that are not those that it named.", _LOG),
    "worker.lost": Code(
        "The worker was not heard of until its lease had run out.",
        "The operator finds the reason in that worker's log.",
    ),
    "worker.error": Code(
        "The worker could not run the job.", "The operator finds the reason in the worker's log."
    ),
    "worker.input_missing": Code(
        "The teacher's or dataset's file could not be fetched.",
        "The operator finds the reason in the worker's log.",
    ),
    "device.unavailable": Code(
        "ABDISTILL_DEVICE names a device that the worker's machine has not.",
        "The operator sets it to `auto`.",
    ),
    "devices.too_few": Code(
        "The job asks for more devices than its worker's slot has GPUs.",
        "Clone it with fewer `devices`, or the operator gives each slot more GPUs (`ABDISTILL_SLOT_DEVICES`).",
    ),
    "run.invalid": Code(
        "The worker does not understand the job.", "The operator runs API and workers of one version."
    ),
    "teacher_source.no_room": Code(
        "The worker's disk has no room for the teacher's answers.",
        "Take `teacher_source` `auto` or `online`, or fewer `augmentation.views`.",
    ),
}
