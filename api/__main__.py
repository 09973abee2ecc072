"""`python -m api`: the HTTP service, by this process's settings."""

import uvicorn

from api.connections import Connection
from store.settings import get_settings

STREAM_GRACE_SECONDS = 5
"""Streams last as long as jobs do: a service that stops does not wait for their end."""

if __name__ == "__main__":
    settings = get_settings()
    uvicorn.run(
        "api.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        http=Connection,
        ws="none",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STREAM_GRACE_SECONDS,
    )
