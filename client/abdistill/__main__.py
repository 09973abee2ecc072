"""`python -m abdistill` is the command `abdistill`."""

from abdistill.cli import app

app()
