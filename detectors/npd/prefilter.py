"""Many expressions in one Hyperscan database, for the extra `[fast]`: whoever it finds nothing for has nothing to find."""

import re
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

# What stands at an end of a message stands elsewhere in its line, behind the stamp.
ENDS = re.compile(r"\\[AzZG]|(?<![\\[])\^|(?<!\\)\$")
# Characters are counted by RE2 and bytes here, not the same beyond ASCII: however many is a little more than so many.
_COUNTED = re.compile(r"(\.|\]|\\[SWDPpC])\{\d+(?:,\d*)?\}")
# A tail that may be as long as it likes would be told at each of its letters.
_TAIL = re.compile(r"(?<!\\)(?:\.[*+]\??)+$")


class Machine(Protocol):
    """A compiled database. on_match: (number, first byte, end byte, flags, context)."""

    def scan(self, block: bytes, *, match_event_handler: Callable[[int, int, int, int, object], None]) -> None: ...


def is_installed() -> bool:
    """Whether the `[fast]` extra is there."""
    return find_spec("hyperscan") is not None


def hyperscan_of(words: Sequence[Sequence[str]], expressions: Sequence[str]) -> Machine:
    """A database of all expressions; of the words alone where there is no expression, or none that may stand for it."""
    hyperscan: Any = import_module("hyperscan")
    rows = list(_forms(hyperscan, words, expressions))
    database = hyperscan.Database()
    database.compile(
        expressions=[form for _, form in rows],
        ids=[number for number, _ in rows],
        elements=len(rows),
        flags=[0] * len(rows),
    )
    database.scratch = hyperscan.Scratch(database)
    machine: Machine = database
    return machine


def _forms(hyperscan: Any, words: Sequence[Sequence[str]], expressions: Sequence[str]) -> Iterator[tuple[int, bytes]]:
    for number, (own, expression) in enumerate(zip(words, expressions, strict=True)):
        form = _TAIL.sub("", _COUNTED.sub(r"\1*", expression.removeprefix("^")))
        usable = form.isascii() and form and not ENDS.search(form)
        if own and usable and _compiles(hyperscan, form):
            yield number, form.encode()
        else:
            for word in own:
                yield number, b"".join(b"\\x%02x" % byte for byte in word.encode())


def _compiles(hyperscan: Any, form: str) -> bool:
    try:
        hyperscan.Database().compile(expressions=[form.encode()], ids=[0], elements=1, flags=[0])
    except hyperscan.HyperscanError:
        return False
    return True
