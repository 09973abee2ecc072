"""What the tests of uploads share: a forge that makes them, good and bad, and a room that verifies them."""

from plugins.room import forge, model, room

__all__ = ["forge", "model", "room"]
