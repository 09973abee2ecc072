"""Process trees that die with their parent, whatever kills it. Standard library only.

`spawn` starts a command below two small watching processes. When the command ends, when the spawner ends (even by
kill -9), or when one of the watchers is killed, everything below is ended too: children, grandchildren, and those that
moved to a session of their own. A `ForkServer` starts commands of one program faster, and holds them just so.
"""

from leash.fork_server import ForkServer
from leash.limits import Files, Limits
from leash.spawning import Leashed, spawn

__all__ = ["Files", "ForkServer", "Leashed", "Limits", "spawn"]
