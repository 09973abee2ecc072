"""Typed clients that generators make of the OpenAPI document leave nothing out, compile, and work: `make clients`.

All of it is made in a folder that is thrown away; the generators come from the package registries.
"""

import contextlib
import json
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from document import document

from api.app import create_app
from store import schema
from store.database import Database
from store.keys import create_key
from store.models import DEFAULT_PROJECT
from store.settings import Settings

HERE = Path(__file__).parent
PYTHON = ("openapi-python-client==0.29.1", "mypy==2.4.1")
TYPESCRIPT = ("openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3")
START_SECONDS = 60.0


def run(folder: Path, *command: str | Path, **variables: str) -> str:
    """What a command prints; one that fails ends all of this with all that it said."""
    told = subprocess.run(
        command, cwd=folder, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if told.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\n{told.stdout}{told.stderr}")
    return told.stdout


@contextlib.contextmanager
def service(folder: Path) -> Iterator[dict[str, str]]:
    """A service with an empty database, as the variables that a client finds it by."""
    settings = Settings(data_dir=folder)
    schema.upgrade(settings.database_url)
    db = Database(settings.database_url)
    _, key = create_key(db, DEFAULT_PROJECT, "clients")
    server = uvicorn.Server(uvicorn.Config(create_app(settings), port=0, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        give_up = time.monotonic() + START_SECONDS
        while not server.started:
            if time.monotonic() > give_up or not thread.is_alive():
                sys.exit("the service did not start")
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield {"ABDISTILL_URL": f"http://127.0.0.1:{port}", "ABDISTILL_API_KEY": key}
    finally:
        server.should_exit = True
        thread.join()
        db.dispose()


def python_client(folder: Path, told: dict[str, Any], variables: dict[str, str]) -> None:
    """Generate, hold against the document, check the types of, and use the Python client."""
    run(folder, sys.executable, "-m", "venv", "venv")
    flags = shlex.split(os.environ.get("PIP_FLAGS", ""))
    run(folder, "venv/bin/python", "-m", "pip", "install", "--quiet", *flags, *PYTHON)
    shutil.copy(HERE / "usage.py", folder)
    generate = ("generate", "--path", "openapi.json", "--output-path", "abdistill_api", "--meta", "none")
    config = ("--config", HERE / "openapi-python-client.yaml", "--fail-on-warning")
    run(folder, "venv/bin/openapi-python-client", *generate, *config)
    package = folder / "abdistill_api"
    operations = sum(len(methods) for methods in told["paths"].values())
    endpoints = [file for file in (package / "api").glob("*/*.py") if file.stem != "__init__"]
    models = set(re.findall(r'^    "(\w+)",$', (package / "models/__init__.py").read_text(), re.MULTILINE))
    lacking = (
        set(told["components"]["schemas"]) - models - {"Layers"}
    )  # which is LayerList by the configuration
    if len(endpoints) != operations or lacking:
        sys.exit(f"Python: {len(endpoints)} of {operations} operations, and no {sorted(lacking)}")
    run(folder, "venv/bin/python", "-m", "compileall", "-q", "abdistill_api")
    checked = run(folder, "venv/bin/mypy", "--strict", "abdistill_api", "usage.py").strip()
    used = run(folder, "venv/bin/python", "usage.py", **variables).strip()
    print(
        f"Python: {len(endpoints)} of {operations} operations, {len(models)} models; mypy --strict: {checked}"
    )
    print(f"        used: {used}")


def typescript_client(folder: Path, told: dict[str, Any], variables: dict[str, str]) -> None:
    """Generate, hold against the document, check the types of, and use the TypeScript client."""
    run(folder, "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *TYPESCRIPT)
    shutil.copy(HERE / "usage.mts", folder)
    bin_ = folder / "node_modules/.bin"
    # A field with a default may be left out of a body; of an answer the document says itself that it may not.
    run(
        folder,
        bin_ / "openapi-typescript",
        "openapi.json",
        "--default-non-nullable=false",
        "-o",
        "abdistill.d.ts",
    )
    types = (folder / "abdistill.d.ts").read_text()
    names = [operation["operationId"] for methods in told["paths"].values() for operation in methods.values()]
    lacking = [name for name in [*names, *told["components"]["schemas"]] if f"    {name}: " not in types]
    if lacking:
        sys.exit(f"TypeScript: no {lacking}")
    run(folder, bin_ / "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "usage.mts")
    used = run(folder, "node", "usage.mjs", **variables).strip()
    schemas = len(told["components"]["schemas"])
    print(f"TypeScript: {len(names)} operations, {schemas} schemas; tsc --strict: 0 errors")
    print(f"        used: {used}")


def main() -> None:
    """Both clients, one after the other."""
    logging.disable(logging.WARNING)
    told = document()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "openapi.json").write_text(json.dumps(told))
        with service(folder / "service") as variables:
            python_client(folder, told, variables)
            typescript_client(folder, told, variables)


if __name__ == "__main__":
    main()
