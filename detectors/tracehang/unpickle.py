"""Reads pickles and JSON that nobody vouches for: plain values only, no name is ever looked up, and memory is bounded."""

import gc
import io
import pickle
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import msgspec

MOST_BYTES = 256 << 20

# What one file may ask for beyond what the process has: plain values take at most some dozen times their encoded size, while a
# memo index or a length that is a lie asks for thousands of times as much.
_ROOM_BYTES = 256 << 20
_ROOM_FACTOR = 64
_MOST_ROOM_BYTES = 8 << 30

# So much is handed to the unpickler at once; with smaller parts it asks for every few bytes anew.
_PART_BYTES = 1 << 20


class PickleError(ValueError):
    """Not a file of plain values; the message says why."""


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> NoReturn:
        raise PickleError(f"it names {module}.{name}: refused, nothing was executed")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise PickleError("it refers to something outside: refused")


def plain(data: bytes) -> Any:
    """Unpickle dicts, lists, tuples, strings, numbers, None.

    raises PickleError: a global, an outside reference, an unfinished or broken stream, more memory than it may have
    """
    _check(data)
    try:
        with _bounded(len(data)):
            return _Plain(io.BufferedReader(io.BytesIO(data), min(len(data) + 1, _PART_BYTES))).load()
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


def plain_json(data: bytes) -> Any:
    """Decode JSON; raises PickleError: broken, too deep, or more memory than it may have."""
    _check(data)
    try:
        with _bounded(len(data)):
            return msgspec.json.decode(data)
    except MemoryError:
        raise PickleError("it asks for more memory than it may have") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise PickleError(f"not whole JSON: {type(error).__name__}: {error}") from error


def _check(data: bytes) -> None:
    if len(data) > MOST_BYTES:
        raise PickleError(f"{len(data)} bytes, at most {MOST_BYTES} are read")


@contextmanager
def _bounded(size: int) -> Iterator[None]:
    """Let the process grow only so far while a stranger's bytes decide how much it asks for."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = _size() + min(_ROOM_BYTES + _ROOM_FACTOR * size, _MOST_ROOM_BYTES)
    if before[0] != resource.RLIM_INFINITY:
        room = min(room, before[0])
    resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
    try:
        with uncollected():
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def uncollected() -> Iterator[None]:
    """Let the collector of cycles rest: plain values from a stream are all new, and it would look through them again and again.

    Whoever holds this until it has let go of the values spares the collector their sight altogether.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _size() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # read for every dump: Path costs as much as the read
        return int(file.read().split()[0]) * resource.getpagesize()
