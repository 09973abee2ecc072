"""Untrusted uploads in, verified safetensors out; everything that is wrong with an upload is a `Refusal`."""

from abcore.ingest.datasets import verify_dataset
from abcore.ingest.teachers import verify_teacher

__all__ = ["verify_dataset", "verify_teacher"]
