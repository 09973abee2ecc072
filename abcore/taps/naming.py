"""Names of tap points, taken apart and put together."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Site:
    """One call of a module, or of an activation function in a module's forward method. Calls count from 0."""

    path: str
    function: str | None = None
    call: int = 0

    @property
    def base(self) -> str:
        """The site's name without its call."""
        if self.function is None:
            return self.path
        return f"{self.path}.{self.function}()" if self.path else f"{self.function}()"

    @property
    def first(self) -> "Site":
        """The first call of the same module or function."""
        return replace(self, call=0)

    def name(self, num_calls: int) -> str:
        """The site's name, with its call where there are several in a forward pass."""
        return self.base if num_calls == 1 else f"{self.base}#{self.call}"


def parse_site(name: str) -> tuple[Site, bool]:
    """Take a tap's name apart; the second part says whether it names a call.

    Raises:
        ValueError: `name` ends in a `#` without a number behind it.
    """
    base, mark, call = name.partition("#")
    if mark and not call.isdecimal():
        raise ValueError(f"{name!r}: what follows # must be the number of a call, counting from 0")
    path, function = base, None
    if base.endswith("()"):
        path, _, function = base[:-2].rpartition(".")
    return Site(path, function, int(call or 0)), bool(mark)
