"""Datasets: labelled images that users upload."""

from abcore.specs.runs import VerifyDatasetRun
from store.database import Database
from store.ids import new_id
from store.models import Dataset, Job
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


def _run_of(dataset: Dataset) -> VerifyDatasetRun:
    return VerifyDatasetRun(**dataset.options)


_datasets = Uploads(Dataset, "dataset", Job.dataset_id, _run_of)
get = _datasets.get
list_ = _datasets.list_
attach_upload = _datasets.attach_upload
delete = _datasets.delete
