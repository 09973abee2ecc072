"""Why the service cannot start, in words for the person at the terminal."""


class CannotStart(Exception):
    """Something outside this program is in the way; the message says what, where, and what to do."""
