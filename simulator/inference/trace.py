"""Real request traces as files: CSV with TIMESTAMP, ContextTokens, GeneratedTokens, and JSON lines with prefix hashes."""

import csv
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, NamedTuple

import msgspec

MOST_ROWS = 5_000_000
MOST_TOKENS = 10_000_000
MOST_LINE = 1 << 20
_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")

Tokens = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]


class TraceError(ValueError):
    """Not a trace; the message names file, line and reason."""


class Row(NamedTuple):
    """One request. at_s: seconds since the trace's first request; prefix: hashes as `Request.prefix`."""

    at_s: float
    prompt: int
    output: int
    prefix: tuple[int, ...]


class _Line(msgspec.Struct):
    timestamp: Annotated[float, msgspec.Meta(ge=0)]
    input_length: Tokens
    output_length: Tokens
    hash_ids: tuple[int, ...] = ()


def read_trace(path: Path) -> list[Row]:
    """Every request of a trace in the order of time; the form is told by the first character, an opening brace is JSON lines.

    CSV: times are dates, without a zone UTC. JSON lines: `timestamp` milliseconds, `input_length`, `output_length`, `hash_ids`.
    A prompt or an output of no token is read as one of one token.
    raises TraceError: unreadable, empty, another form, a row that is wrong or too long, more than MOST_ROWS
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            first = file.read(1)
            file.seek(0)
            rows = list(_bounded(_json_rows(file, path) if first == "{" else _csv_rows(file, path), path))
    except (OSError, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: {error}") from error
    if not rows:
        raise TraceError(f"{path}: no request in it")
    rows.sort(key=lambda row: row.at_s)
    begin = rows[0].at_s
    return [row._replace(at_s=row.at_s - begin, prompt=max(1, row.prompt), output=max(1, row.output)) for row in rows]


def _bounded(rows: Iterator[Row], path: Path) -> Iterator[Row]:
    for number, row in enumerate(rows):
        if number >= MOST_ROWS:
            raise TraceError(f"{path}: more than {MOST_ROWS} requests")
        yield row


def _lines(file: IO[str], path: Path) -> Iterator[tuple[int, str]]:
    number = 0
    while line := file.readline(MOST_LINE + 1):
        number += 1
        if len(line) > MOST_LINE:
            raise TraceError(f"{path}, line {number}: longer than {MOST_LINE} characters")
        if line.strip():
            yield number, line


def _json_rows(file: IO[str], path: Path) -> Iterator[Row]:
    decoder = msgspec.json.Decoder(_Line)
    for number, line in _lines(file, path):
        try:
            said = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeEncodeError) as error:
            raise TraceError(f"{path}, line {number}: {error}") from error
        yield Row(said.timestamp / 1000.0, said.input_length, said.output_length, said.hash_ids)


def _csv_rows(file: IO[str], path: Path) -> Iterator[Row]:
    lines = _lines(file, path)
    number, head = next(lines, (1, ""))
    names = next(csv.reader([head.removeprefix("\ufeff")]), [])
    try:
        places = [names.index(name) for name in _COLUMNS]
    except ValueError:
        raise TraceError(f"{path}, line {number}: neither JSON lines nor a CSV with the columns {', '.join(_COLUMNS)}") from None
    for number, line in lines:
        try:
            fields = next(csv.reader([line]))
            at, prompt, output = (fields[place] for place in places)
            yield Row(_seconds(at), _count(prompt), _count(output), ())
        except (IndexError, ValueError, csv.Error) as error:
            raise TraceError(f"{path}, line {number}: {error}") from error


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text.strip())
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if not math.isfinite(seconds):
        raise ValueError(f"no moment: {text!r}")
    return seconds


def _count(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MOST_TOKENS:
        raise ValueError(f"{value} tokens, from 0 to {MOST_TOKENS} are read")
    return value
