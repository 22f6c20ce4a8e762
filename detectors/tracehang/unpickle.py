"""Reads pickles that nobody vouches for: plain values only, no name is ever looked up, and memory is bounded."""

import io
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

MOST_BYTES = 256 << 20

# What a dump may need beyond what the process has: a pickle can ask for far more than its own size (memo bombs).
_ROOM_BYTES = 2 << 30


class PickleError(ValueError):
    """Not a pickle of plain values; the message says why."""


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise PickleError(f"it names {module}.{name}: refused, nothing was executed")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise PickleError("it refers to something outside: refused")


def plain(data: bytes) -> Any:
    """Unpickle dicts, lists, tuples, strings, numbers, None.

    raises PickleError: a global, an outside reference, an unfinished or broken stream, more memory than it may have
    """
    if len(data) > MOST_BYTES:
        raise PickleError(f"{len(data)} bytes, at most {MOST_BYTES} are read")
    try:
        with _bounded():
            return _Plain(io.BytesIO(data)).load()
    except PickleError:
        raise
    except MemoryError:
        raise PickleError("it asks for more memory than it may have") from None
    except (
        pickle.UnpicklingError,
        EOFError,
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise PickleError(f"not a whole pickle: {str(error) or type(error).__name__}") from error


@contextmanager
def _bounded() -> Iterator[None]:
    """Let the process grow only so far while a stranger's bytes decide how much it asks for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = _size() + _ROOM_BYTES
    if before[0] != resource.RLIM_INFINITY:
        room = min(room, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _size() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # read for every dump: Path costs as much as the read
        return int(file.read().split()[0]) * resource.getpagesize()
