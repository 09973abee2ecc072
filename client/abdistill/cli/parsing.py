"""From words on a command line to what the service takes."""

import json
from pathlib import Path
from typing import Any

import typer


def architecture(text: str) -> dict[str, Any]:
    """`wide_resnet:depth=16,width=2`, inline JSON, or the name of a JSON file."""
    given = _json_or_file(text)
    if given is not None:
        return given
    arch, _, fields = text.partition(":")
    return {"arch": arch} | assignments(fields.split(",") if fields else [])


def model(text: str, image: str | None, num_classes: int | None) -> dict[str, Any]:
    """A whole model spec: an architecture with `--image` and `--classes`, or JSON that holds all three."""
    given = architecture(text)
    if "architecture" in given:
        return given
    if image is None or num_classes is None:
        raise typer.BadParameter("--model is an architecture only: give --image CxHxW and --classes N too")
    sizes = image.lower().split("x")
    if len(sizes) != 3 or not all(size.isdigit() for size in sizes):
        raise typer.BadParameter(f"--image is {image!r}: give CHANNELSxHEIGHTxWIDTH, e.g. 3x32x32")
    shape = dict(zip(("channels", "height", "width"), map(int, sizes), strict=True))
    return {"architecture": given, "image": shape, "num_classes": num_classes}


def recipe(file: str | None, settings: list[str]) -> dict[str, Any]:
    """The recipe of a file (or inline JSON), with `transfer.epochs=5` and the like laid over it."""
    result: dict[str, Any] = {}
    if file is not None:
        given = _json_or_file(file)
        if given is None:
            raise typer.BadParameter(f"--recipe is {file!r}: there is no such file, and it is no JSON object")
        result = given
    return laid_over(result, settings)


def laid_over(result: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """An object with `transfer.epochs=5` and the like laid over it."""
    for path, value in assignments(settings).items():
        *parents, last = path.split(".")
        place = result
        for parent in parents:
            if not isinstance(place.get(parent), dict):
                place[parent] = {}
            place = place[parent]
        place[last] = value
    return result


def assignments(words: list[str]) -> dict[str, Any]:
    """`key=value` pairs; a value is read as JSON where it is some (5, 0.1, null, true), else it is text."""
    result: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise typer.BadParameter(f"{word!r} is not of the form key=value")
        try:
            result[key.strip()] = json.loads(value)
        except ValueError:
            result[key.strip()] = value
    return result


def values(words: list[str]) -> dict[str, list[Any]]:
    """`key=1,2,3` and `key=[...]` as lists of values; of `key=1,x` each part is read like an assignment's value."""
    result: dict[str, list[Any]] = {}
    for key, value in assignments(words).items():
        if isinstance(value, str):
            result[key] = [assignments([f"{key}={part}"])[key] for part in value.split(",")]
        else:
            result[key] = value if isinstance(value, list) else [value]
    return result


def objects(texts: list[str]) -> list[dict[str, Any]]:
    """Of each text the object that it is, or that the file of that name holds."""
    found = []
    for text in texts:
        given = _json_or_file(text)
        if given is None:
            raise typer.BadParameter(f"{text!r} is no JSON object, and there is no such file")
        found.append(given)
    return found


def _json_or_file(text: str) -> dict[str, Any] | None:
    """The object that the text is, or that the file of that name holds; None if it is neither."""
    inline = text.lstrip().startswith("{")
    if not inline:
        path = Path(text)
        if not path.is_file():
            return None
        text = path.read_text()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{'this' if inline else path} is no valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise typer.BadParameter(f"{'this' if inline else path} is JSON, but no object")
    return value
