"""Requests of absurd size or shape: networks that nobody could train, JSON that nobody would write."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_IMAGE = {"channels": 1, "height": 8, "width": 8}
_LARGE_IMAGE = {"channels": 3, "height": 1024, "width": 1024}
_SMALL = {"arch": "wide_resnet", "depth": 10, "width": 1}
_CONV = {"type": "conv", "out_channels": 16_384}
_LINEAR = {"type": "linear", "out_features": 65_536}
TOO_LARGE = "architecture.too_large"


@dataclass(frozen=True)
class HostileRequest:
    """A POST to `path`, the statuses that are right answers, and the code that has to be told where one is given."""

    family: str
    name: str
    path: str
    body: bytes
    statuses: tuple[int, ...] = (422,)
    code: str | None = None
    media_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.family}: {self.name}"


def _teacher(
    architecture: Any = _SMALL, image: Any = _IMAGE, num_classes: Any = 10, name: Any = "t"
) -> bytes:
    model = {"architecture": architecture, "image": image, "num_classes": num_classes}
    return json.dumps({"name": name, "model": model}).encode()


def _layers(*layers: Any, image: Any = _IMAGE) -> bytes:
    return _teacher({"arch": "layers", "layers": layers}, image)


def _nested(depth: int, kind: str = "residual") -> Any:
    layer: dict[str, Any] = {"type": "activation"}
    for _ in range(depth):
        layer = {"type": kind, "layers": [layer]} | ({"times": 100} if kind == "repeat" else {})
    return layer


def _networks() -> Mapping[str, tuple[bytes, str | None]]:
    return {
        "4,000 million parameters in one layer": (
            _layers({"type": "flatten"}, _LINEAR, _LINEAR),
            TOO_LARGE,
        ),
        "10^12 parameters in kernels": (_layers(_CONV, _CONV | {"kernel_size": 31}), TOO_LARGE),
        "10^12 parameters, layer by layer": (_layers({"type": "flatten"}, *[_LINEAR] * 400), TOO_LARGE),
        "25 TB of activations, few parameters": (
            _layers(_CONV | {"kernel_size": 1}, *[{"type": "activation"}] * 400, image=_LARGE_IMAGE),
            TOO_LARGE,
        ),
        "10^13 multiply-accumulates": (
            _teacher({"arch": "wide_resnet", "depth": 100, "width": 20}, _LARGE_IMAGE),
            TOO_LARGE,
        ),
        "an ensemble of sixteen large ones": (
            _teacher(
                {"arch": "ensemble", "members": [{"arch": "wide_resnet", "depth": 100, "width": 20}] * 16}
            ),
            TOO_LARGE,
        ),
        "a million layers by repetition": (_layers(_nested(3, "repeat")), None),
        "layers 20 levels deep": (_layers(_nested(20)), None),
        "layers 200 levels deep": (_layers(_nested(200)), None),
        "2,000 layers": (_layers(*[{"type": "activation"}] * 2000), None),
        "a kernel larger than the image": (
            _layers(_CONV | {"kernel_size": 31, "padding": 0}),
            "layers.shape",
        ),
        "images of 10^18 pixels": (_teacher(image={"channels": 3, "height": 10**9, "width": 10**9}), None),
        "10^12 classes": (_teacher(num_classes=10**12), None),
        "a depth of 400 digits": (_teacher(_SMALL | {"depth": 10**400}), None),
        "a depth below zero": (_teacher(_SMALL | {"depth": -10}), None),
        "a depth of a fraction": (_teacher(_SMALL | {"depth": 10.5}), None),
        "a width that is no number": (_teacher(_SMALL | {"width": float("nan")}), None),
        "a width without end": (_teacher(_SMALL | {"width": float("inf")}), None),
        "a name out of the library": (
            _teacher({"arch": "torchvision", "name": "__import__"}),
            "architecture.unknown",
        ),
        "a name that is a path": (_teacher({"arch": "timm", "name": "../../etc/passwd"}), None),
    }


def _bodies() -> Mapping[str, tuple[bytes, tuple[int, ...], str | None]]:
    return {
        "nothing": (b"", (400, 422), None),
        "no JSON": (b"{", (400, 422), None),
        "not UTF-8": (b'{"name": "\xff\xfe"}', (400, 422), None),
        "a list": (b"[]", (422,), None),
        "nested 100,000 deep": (b"[" * 100_000 + b"]" * 100_000, (400, 422), None),
        "objects nested 50,000 deep": (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, (400, 422), None),
        "a number of 100,000 digits": (b'{"name": ' + b"9" * 100_000 + b"}", (400, 422), None),
        "60,000 unknown fields": (
            json.dumps({f"f{i}": i for i in range(60_000)}).encode(),
            (413,),
            "request.too_large",
        ),
        "half a million zeros": (b'{"name": [' + b"0," * 450_000 + b"0]}", (413,), "request.too_large"),
        "two megabytes": (b" " * 2**21 + b"{}", (413,), "request.too_large"),
        "a name of 900 kB": (_teacher(name="a" * 900_000), (422,), None),
        "a name with NUL": (_teacher(name="a\0b"), (422,), None),
        "a name with half a character": (_teacher(name="\ud800"), (400, 422), None),
        "a name that upsets a terminal": (_teacher(name="\x1b[2J"), (422,), None),
        "a name of nothing": (_teacher(name=""), (422,), None),
        "a field twice": (b'{"name": "a", "name": "b"}', (422,), None),
        "prototypes": (b'{"__proto__": {"admin": true}, "constructor": {}}', (422,), None),
    }


def requests() -> Iterator[HostileRequest]:
    """All of them."""
    for name, (body, code) in _networks().items():
        yield HostileRequest("networks of absurd size", name, "/v1/teachers", body, code=code)
    for name, (body, statuses, told) in _bodies().items():
        yield HostileRequest("JSON of absurd size or shape", name, "/v1/teachers", body, statuses, told)
    for media_type in ("text/xml", "multipart/form-data; boundary=x", "application/x-python-serialize"):
        yield HostileRequest(
            "JSON of absurd size or shape",
            f"sent as {media_type}",
            "/v1/teachers",
            _teacher(),
            (415,),
            None,
            media_type,
        )


REQUESTS = tuple(requests())
