"""Prints the OpenAPI document as a service would give it: `python tests/contract/document.py`."""

import json
import tempfile
from pathlib import Path
from typing import Any

from api.app import create_app
from store.settings import Settings


def document() -> dict[str, Any]:
    """What `GET /openapi.json` answers."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder))).openapi()


if __name__ == "__main__":
    print(json.dumps(document()))
