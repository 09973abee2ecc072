"""What the tests of the hostile corpus share with those of the readers."""

from plugins.room import forge, model, room

__all__ = ["forge", "model", "room"]
