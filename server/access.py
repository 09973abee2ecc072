"""The key of this machine's user: made at the first start, kept where only that user can read it."""

import os
from pathlib import Path

from store.database import Database
from store.errors import Unauthenticated
from store.keys import authenticate, create_key
from store.models import DEFAULT_PROJECT

KEY_FILE = "api-key"


def local_key(db: Database, data_dir: Path) -> str:
    """The secret in the key file if this database accepts it, else a new one that is written there."""
    path = data_dir / KEY_FILE
    if path.exists():
        secret = path.read_text().strip()
        try:
            authenticate(db, secret)
        except Unauthenticated:
            pass  # revoked, or of another database: a new one takes its place
        else:
            return secret
    _, secret = create_key(db, DEFAULT_PROJECT, "made by `abdistill-server up`")
    temporary = path.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    temporary.replace(path)
    return secret
