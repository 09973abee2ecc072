"""What a finished student says of images, as the service answers it."""

from abdistill.reports import Answer


class PredictedClass(Answer):
    """A class, by its place and name in the dataset, and its probability by the student's softmax, 0..1."""

    index: int
    name: str
    probability: float


class Prediction(Answer):
    """The likeliest classes of one image, the likeliest first."""

    classes: tuple[PredictedClass, ...]


class Predictions(Answer):
    """What the student of `job` says of the images, in the order in which they were asked about."""

    job: str
    student_sha256: str
    data: tuple[Prediction, ...]
