"""torchrun's own reports: the error file of a worker and the failure block on the console."""

import re

import msgspec

from detectors.joblog.prefix import bare, seconds_of
from detectors.joblog.tracebacks import HEADER, Reader


class Failure(msgspec.Struct):
    """One failed worker of the console block. at: Unix seconds, 0.0 unknown; rank: -1 unknown."""

    line: int
    rank: int = -1
    host: str = ""
    at: float = 0.0
    exitcode: int = 0
    text: str = ""
    first: bool = False


_FIELD = re.compile(r"\s{2,}(time|host|rank|exitcode|error_file|traceback)\s{0,12}: (.*)$")
_NUMBER = re.compile(r"-?\d{1,9}")


def failures(lines: list[tuple[int, str]]) -> list[Failure]:
    """The workers of a console block, that of `Root Cause (first observed failure)` marked as first."""
    found: list[Failure] = []
    first = False
    for number, raw in lines:
        text = bare(raw).text if not raw.startswith("  ") else raw
        first = first or "Root Cause (first observed failure)" in text
        field = _FIELD.match(text)
        if not field:
            continue
        name, value = field.group(1), field.group(2).strip()
        if name == "time":
            found.append(Failure(number, at=seconds_of(value), first=first))
        elif found:
            _fill(found[-1], name, value)
    return found


def _fill(failure: Failure, name: str, value: str) -> None:
    number = _NUMBER.match(value)
    if name == "host":
        failure.host = value
    elif name == "rank" and number:
        failure.rank = int(number.group())
    elif name == "exitcode" and number:
        failure.exitcode = int(number.group())
    elif name == "traceback":
        failure.text = value


class ErrorFile(msgspec.Struct):
    """What a worker's error file says. reader: its traceback, None where there is none."""

    text: str
    at: float
    code: int | None
    reader: Reader | None


def error_file(data: bytes) -> ErrorFile:
    """Read a `TORCHELASTIC_ERROR_FILE`, the new form and the old one.

    raises ValueError: not JSON, or no message in it
    """
    try:
        row = msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a torchrun error file: {error}") from error
    message = row.get("message") if isinstance(row, dict) else None
    if isinstance(message, str):
        inner: dict[str, object] = {"message": message, "extraInfo": {"timestamp": row.get("timestamp")}}
    elif isinstance(message, dict):
        inner = message
    else:
        raise ValueError("not a torchrun error file: no message")
    extra = inner.get("extraInfo")
    extra = extra if isinstance(extra, dict) else {}
    stamp, code, stack = (
        str(extra.get("timestamp") or row.get("timestamp") or ""),
        inner.get("errorCode"),
        extra.get("py_callstack"),
    )
    reader = None
    if isinstance(stack, str) and HEADER in stack:
        reader = Reader(1)
        for number, text in enumerate(stack.splitlines(), 1):
            if not reader.take(number, text):
                break
    at = float(stamp) if re.fullmatch(r"\d{9,11}(\.\d{1,9})?", stamp) else 0.0
    return ErrorFile(str(inner.get("message") or "")[:4000], at, code if isinstance(code, int) else None, reader)
