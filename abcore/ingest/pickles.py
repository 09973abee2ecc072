"""PyTorch's own checkpoint files (.pt, .pth), screened before torch opens them.

`torch.load(weights_only=True)` keeps a pickle from running code, not from claiming terabytes: a file of a kilobyte can
ask for a bytearray of any size, a deflated entry unfolds a thousandfold, a storage can claim more than the file holds.
So the file is first read without torch: its zip directory, then its pickle, every object replaced by an inert one.
"""

import argparse
import contextlib
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abcore.ingest.pickle_programs import foreign_object, refuse_bombs, refuse_foreign_names
from abcore.specs.refusals import Refusal

MOST_PICKLE_BYTES = 16 * 2**20
"""Size of `data.pkl`, which holds names, shapes and nothing else: a thousand tensors take about 150 kB."""

_LEGACY_PICKLES = 5

_ELEMENT_BYTES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
    "UntypedStorage": 1,
}

# What the pickle of a state dict, and of the usual training state around it, is made of.
_ALLOWED = frozenset(
    {
        "collections.OrderedDict",
        "collections.defaultdict",
        "builtins.dict",
        "__builtin__.dict",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch.Size",
        "torch.device",
        "torch.serialization._get_layout",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "_codecs.encode",
        "argparse.Namespace",
        *(f"torch.{name}" for name in _ELEMENT_BYTES),
        *(
            f"torch.{name}"
            for name in ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool")
        ),
    }
)


def load_torch_checkpoint(path: Path) -> Any:
    """Read a `.pt` or `.pth` file as plain values and tensors, which stay on disk until they are used.

    Raises:
        Refusal: `checkpoint.*`: not PyTorch's zip format, damaged, holds other objects than a state dict does, or
            claims more data than it has.
    """
    entries = _screen_entries(path)
    _screen_pickle(path, entries)
    scalar = getattr(np, "_core", np).multiarray.scalar
    allowed: list[Any] = [argparse.Namespace, np.dtype, (scalar, "numpy.core.multiarray.scalar"), scalar]
    allowed += [type(np.dtype(kind)) for kind in ("f8", "f4", "i8", "i4", "?")]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except MemoryError:
        raise
    except Exception as error:
        # A pickle is a program for a small machine: a wrong one can fail it in any way.
        raise _damaged(_first_line(error)) from error


def refuse_legacy(path: Path) -> Refusal:
    """Say what is wrong with a bare pickle, naming what it would have imported; it is read as text, not opened.

    Raises:
        Refusal: `checkpoint.foreign_object`: it names something that is no part of a state dict.
    """
    with path.open("rb") as file:
        stream = io.BytesIO(file.read(MOST_PICKLE_BYTES))
    # PyTorch's old format is a row of pickles, then the tensors' bytes.
    with contextlib.suppress(ValueError):
        for _ in range(_LEGACY_PICKLES):
            for _ in refuse_foreign_names(stream, _ALLOWED):
                pass
    return Refusal(
        "checkpoint.legacy",
        "the file is a bare pickle: PyTorch's format before 1.6, or another library's; it was not opened",
        where="checkpoint",
        allowed=(".safetensors", ".pt or .pth of torch.save (PyTorch 1.6 and later)"),
        hint="Load it where you trust it and save it again: torch.save(torch.load(file), 'teacher.pt').",
    )


def _screen_entries(path: Path) -> dict[str, int]:
    """Return the sizes of the zip's entries, after checking that they are the file's own bytes as they stand."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise _damaged(str(error)) from error
    names = [info.filename for info in infos]
    if any(name.endswith("/constants.pkl") for name in names):
        raise Refusal(
            "checkpoint.torchscript",
            "the file is a TorchScript archive: a program, not a state dict",
            where="checkpoint",
            hint="Send the state dict: torch.save(torch.jit.load(file).state_dict(), 'teacher.pt').",
        )
    if len(set(names)) != len(names):
        raise _damaged("two entries have the same name")
    for info in infos:
        if info.compress_type != zipfile.ZIP_STORED:
            raise Refusal(
                "checkpoint.compressed",
                f"entry {info.filename!r} is compressed; PyTorch stores entries as they are",
                where=f"checkpoint:{info.filename}",
                hint="Send the file as torch.save wrote it, not one that was zipped again.",
            )
    if sum(info.file_size for info in infos) > path.stat().st_size:
        raise _damaged("its entries claim more bytes than the file has")
    return {info.filename: info.file_size for info in infos}


def _screen_pickle(path: Path, entries: dict[str, int]) -> None:
    found = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(found) != 1:
        raise Refusal(
            "checkpoint.not_torch",
            "the file is a zip archive, but not one of torch.save: it has no data.pkl",
            where="checkpoint",
            hint="Send a state dict: torch.save(model.state_dict(), 'teacher.pt'), or safetensors.",
        )
    name = found[0]
    if entries[name] > MOST_PICKLE_BYTES:
        raise Refusal(
            "checkpoint.pickle_too_large",
            f"{name} has {entries[name]:,} bytes; names and shapes take at most {MOST_PICKLE_BYTES:,}",
            where=f"checkpoint:{name}",
            value=entries[name],
            hint="Send only the state dict, without training history, or send safetensors.",
        )
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(name)
        refuse_bombs(refuse_foreign_names(io.BytesIO(content), _ALLOWED), len(content))
        _InertUnpickler(content, name.removesuffix("data.pkl"), entries).load()
    except (Refusal, MemoryError):
        raise
    except Exception as error:
        # As above: a wrong program can fail in any way.
        raise _damaged(f"{name}: {_first_line(error)}") from error


class _Inert:
    """Stands for any object of a checkpoint: can be called, filled and built, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class _InertUnpickler(pickle.Unpickler):
    """Goes through a pickle without making anything of it, to see what it names and how much data it claims."""

    def __init__(self, content: bytes, folder: str, entries: dict[str, int]) -> None:
        super().__init__(io.BytesIO(content))
        self._folder = folder
        self._entries = entries

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in _ALLOWED:
            raise foreign_object(full_name)
        if full_name == "collections.OrderedDict":
            return OrderedDict
        if full_name == "_codecs.encode":
            return _refuse_other_encodings
        return type(name, (_Inert,), {})

    def persistent_load(self, pid: Any) -> Any:
        """Check one storage: ('storage', type, key, location, number of elements)."""
        _, kind, key, _, num_elements = pid
        entry = f"{self._folder}data/{key}"
        claimed = num_elements * _ELEMENT_BYTES[kind.__name__]
        if not 0 <= claimed <= self._entries.get(entry, -1):
            raise Refusal(
                "checkpoint.forged",
                f"tensor data {entry!r} claims {claimed:,} bytes; the file has {max(self._entries.get(entry, 0), 0):,}",
                where=f"checkpoint:{entry}",
                value=claimed,
                hint="The file is damaged or made by hand: save the state dict again.",
            )
        return _Inert()


def _refuse_other_encodings(text: Any, encoding: Any = "utf-8") -> _Inert:
    """The bytes of numpy's scalars are text in latin-1. Others grow: hex, of its own result and again, doubles."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise foreign_object(f"_codecs.encode of {type(text).__name__} to {encoding!r}")
    return _Inert()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _damaged(why: str) -> Refusal:
    return Refusal(
        "checkpoint.damaged",
        f"the checkpoint cannot be read: {why}",
        where="checkpoint",
        hint="The file was cut off or altered on its way: send it again with its sha256.",
    )
