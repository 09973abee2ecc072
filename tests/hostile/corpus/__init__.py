"""Files made to harm, family by family; the tests make them, and none is kept anywhere."""

from hostile.case import Case
from hostile.corpus import (
    archives,
    arrays,
    bombs,
    checkpoints,
    others,
    pickles,
    pictures,
    safetensors,
    tables,
    unfolding,
)

_SOURCES = (pickles, bombs, checkpoints, safetensors, archives, unfolding, arrays, tables, pictures, others)
CORPUS: tuple[Case, ...] = tuple(case for source in _SOURCES for case in source.cases())
