"""Where the API's own log lines go when nobody has said: to standard error, like the server's."""

import logging

ROOMS = ("api", "store")


def show_logs() -> None:
    """Write lines of this process's rooms to standard error, unless something handles them already."""
    for room in ROOMS:
        logger = logging.getLogger(room)
        if not logger.hasHandlers():
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
