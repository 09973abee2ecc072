"""Files of other kinds than are read, sent as a teacher or as a dataset, and archives that are no datasets."""

import gzip
import io
import pickle
import struct
from collections.abc import Iterator

import numpy as np
from hostile.case import Case, Make, Row, family
from hostile.corpus.pickles import GADGETS
from plugins.forge import Forge

_FILES: dict[str, bytes] = {
    "one byte": b"\0",
    "text": b"hello",
    "a shell script": b"#!/bin/sh\ntouch x\n",
    "a Python program": b"import os; os.system('touch x')\n",
    "an executable": b"\x7fELF\x02\x01\x01" + bytes(200),
    "an HDF5 file": b"\x89HDF\r\n\x1a\n" + bytes(200),
    "a bzip2 file": b"BZh91AY&SY" + bytes(99),
    "an xz file": b"\xfd7zXZ\0" + bytes(99),
    "a RAR archive": b"Rar!\x1a\x07\x01\0" + bytes(99),
    "a PNG image": b"\x89PNG\r\n\x1a\n" + bytes(99),
    "a GGUF model": b"GGUF" + struct.pack("<IQQ", 3, 2**63, 2**63),
    "a PDF document": b"%PDF-1.7\n" + bytes(99),
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "XML with entities that unfold": b'<!DOCTYPE a [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><a>&b;</a>',
    "a YAML file": b"!!python/object/apply:os.system ['touch x']\n",
    "megabytes of zeros": bytes(4 * 2**20),
    "megabytes of noise": np.random.default_rng(0).bytes(2**20),
}


def _npy(_: Forge) -> bytes:
    content = io.BytesIO()
    np.save(content, np.zeros(3))
    return content.getvalue()


def _joblib(_: Forge) -> bytes:
    """As joblib compresses it: zlib around a pickle."""
    import zlib

    return zlib.compress(pickle.dumps(GADGETS["os.system"]))


def _files(**files: int | bytes) -> Make:
    """A zip of images, each of its number, or of other bytes."""
    return lambda forge: forge.zip(
        {
            name.replace("__", "/") + ".png": forge.png(body) if isinstance(body, int) else body
            for name, body in files.items()
        }
    )


def cases() -> Iterator[Case]:
    """All of them."""
    sent: dict[str, bytes] = _FILES
    yield from family(
        "other files as a teacher",
        "teacher",
        {name: (lambda _, body=body: body, "checkpoint.unknown_format") for name, body in sent.items()}  # type: ignore[misc]
        | {
            "a dataset": (lambda forge: forge.zip(forge.folder()), "checkpoint.not_torch"),
            "a gzipped pickle": (
                lambda _: gzip.compress(pickle.dumps(GADGETS["os.system"])),
                "checkpoint.unknown_format",
            ),
            "a pickle of joblib": (_joblib, "checkpoint.unknown_format"),
            "an array": (_npy, "checkpoint.unknown_format"),
        },
    )
    rows: dict[str, Row] = {
        name: (lambda _, body=body: body, "dataset.unknown_format")  # type: ignore[misc]
        for name, body in sent.items()
    }
    rows |= {
        "a pickle": (lambda _: pickle.dumps(GADGETS["os.system"]), "dataset.unknown_format"),
        "a checkpoint": (lambda forge: forge.torch(forge.state()), "dataset.no_class_folders"),
        "an array": (_npy, "dataset.unknown_format"),
    }
    yield from family("other files as a dataset", "dataset", rows)
    unlabelled = "dataset.no_class_folders"
    yield from family(
        "archives that are no datasets",
        "dataset",
        {
            "nothing": (lambda forge: forge.zip({}), "dataset.empty"),
            "an empty tar": (lambda forge: forge.tar({}), "dataset.empty|dataset.unknown_format"),
            "folders alone": (lambda forge: forge.zip({"train/": b"", "train/cat/": b""}), "dataset.empty"),
            "a text": (lambda forge: forge.zip({"README.md": b"hello"}), unlabelled),
            "no splits": (_files(cat__0=0, dog__0=1), unlabelled),
            "no classes": (_files(train__0=0), unlabelled),
            "one class": (_files(train__cat__0=0, train__cat__1=1), "dataset.one_class"),
            "no training split": (_files(test__cat__0=0, test__dog__0=1), "dataset.no_train"),
            "one image a class": (_files(train__cat__0=0, train__dog__0=1), "dataset.empty_split"),
            "a class that is only tested": (
                _files(train__cat__0=0, train__dog__0=1, val__dog__1=2, val__cow__0=3),
                "dataset.class_without_training_images",
            ),
            "a zip of a tar": (lambda forge: forge.zip({"data.tar": forge.tar(forge.folder())}), unlabelled),
        },
    )
