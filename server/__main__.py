"""`python -m server` is `abdistill-server`."""

from server.main import app

app()
