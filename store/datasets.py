"""Datasets: labelled images that users upload."""

from sqlalchemy import select

from abcore.specs.runs import VerifyDatasetRun
from store.database import Database
from store.errors import NotFound, NotReady
from store.ids import new_id
from store.models import Artifact, Dataset, Job
from store.uploads import Uploads


def create(
    db: Database,
    project_id: str,
    *,
    name: str,
    filename: str,
    image_size: int | None = None,
    holdout_fraction: float = 0.1,
) -> Dataset:
    """Announce a dataset; its archive comes by `attach_upload`. The options are `VerifyDatasetRun`'s."""
    dataset = Dataset(
        id=new_id("dst"),
        project_id=project_id,
        name=name,
        state_detail="Waiting for its content.",
        options={"filename": filename, "image_size": image_size, "holdout_fraction": holdout_fraction},
    )
    with db.write() as session:
        session.add(dataset)
    return dataset


def samples(db: Database, project_id: str, dataset_id: str) -> Artifact:
    """Return the sheet of samples that the dataset's verification made.

    Raises:
        NotFound: there is no such dataset, or it was verified before there were such sheets.
        NotReady: its verification has not made it yet, or has found it invalid.
    """
    dataset = get(db, project_id, dataset_id)
    with db.read() as session:
        sheet = session.scalar(
            select(Artifact)
            .join(Job)
            .where(Job.dataset_id == dataset_id, Job.kind == "verify_dataset", Artifact.kind == "samples")
        )
    if sheet is None and dataset.state != "ready":
        raise NotReady(f"The dataset {dataset_id} is {dataset.state}: it has samples when it is ready.")
    if sheet is None:
        raise NotFound(f"sheet of samples of dataset {dataset_id},", "samples")
    return sheet


def _run_of(dataset: Dataset) -> VerifyDatasetRun:
    return VerifyDatasetRun(**dataset.options)


_datasets = Uploads(Dataset, "dataset", Job.dataset_id, _run_of)
get = _datasets.get
list_ = _datasets.list_
attach_upload = _datasets.attach_upload
attach_parts = _datasets.attach_parts
attach_source = _datasets.attach_source
delete = _datasets.delete
