"""Reads operation traces and step tables (CSV, CSV.gz, Parquet) from files that nobody vouches for."""

import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from detectors.traceslow.sift import SCALED, in_seconds, placed, sifted

MOST_BYTES = 256 << 20
MOST_ROWS = 3_000_000
MOST_COLUMNS = 256
# a longest step, and a largest number of a step or rank: past these a float no longer counts one by one
_LARGEST = 2.0**53
# the same of a place in the job's grid (dp, pp, tp)
_LARGEST_COORDINATE = 1e6

OPERATIONS, STEPS = "slow.operations", "slow.steps"
_NEEDED = ("step", "rank", "op", "start_s", "duration_s")
_OPTIONAL = ("dp", "pp", "tp", "seq", "microbatch", "group")
_ALIASES = {
    "dp_rank": "dp", "stage": "pp", "pp_rank": "pp", "tp_rank": "tp", "optype": "op", "start_ts": "start_s",
    "duration": "duration_s", "seq_id": "seq", "mb_id": "microbatch",
}  # fmt: skip
_NOTHING = -1
_NUMBERS = ("step", "rank", "dp", "pp", "start_s", "duration_s")


class TraceError(ValueError):
    """A file that cannot be used; the message says where and why."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of a job, one a row, ordered by step, rank and start.

    steps, ranks: their numbers as printed, ascending; dp, pp, tp: of each rank, shape (len(ranks),)
    names, groups: of operations and of process groups
    step, rank, op, group: int64, shape (n,), places in `steps`, `ranks`, `names`, `groups`; group -1: not told
    start_s, duration_s: float64, shape (n,); microbatch, seq: int64, shape (n,), -1: not told
    left_out: what was not used of the trace, in words
    """

    steps: np.ndarray
    ranks: np.ndarray
    dp: np.ndarray
    pp: np.ndarray
    tp: np.ndarray
    names: tuple[str, ...]
    groups: tuple[str, ...]
    step: np.ndarray
    rank: np.ndarray
    op: np.ndarray
    group: np.ndarray
    start_s: np.ndarray
    duration_s: np.ndarray
    microbatch: np.ndarray
    seq: np.ndarray
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StepTable:
    """Step times of ranks. step_s and each of phases: float64, shape (len(steps), len(ranks)), NaN: not reported."""

    steps: np.ndarray
    ranks: np.ndarray
    step_s: np.ndarray
    phases: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file: its columns, checked, all of one length. left_out: which rows of it were not used, in words"""

    name: str
    kind: str
    columns: dict[str, np.ndarray]
    left_out: tuple[str, ...] = ()


@dataclass
class Joined:
    """Files of one kind and one job put together. A rank's step stands in one file only."""

    parts: list[Part] = field(default_factory=list)
    _held: set[tuple[int, int]] = field(default_factory=set)

    def add(self, part: Part) -> None:
        """raises TraceError: a step of a rank is in an earlier file already, or the rows are too many together"""
        if sum(len(p.columns["step"]) for p in [*self.parts, part]) > MOST_ROWS:
            raise TraceError(f"over {MOST_ROWS} rows with the files before it")
        pairs = np.unique(np.stack([part.columns["step"], part.columns["rank"]], axis=1), axis=0)
        held = {(int(step), int(rank)) for step, rank in pairs.tolist()}
        again = min(held & self._held, default=None)
        if again is not None:
            raise TraceError(f"step {again[0]} of rank {again[1]} is in an earlier file too; ask about each file alone")
        self._held |= held
        self.parts.append(part)

    def column(self, name: str, missing: object) -> np.ndarray:
        """One column over all files. missing: what stands where a file has no such column."""
        return np.concatenate(
            [p.columns.get(name, np.full(len(p.columns["step"]), missing)) for p in self.parts]
        )


def kind_of(head: bytes) -> str:
    """What a file is by its first bytes: a kind, or "" if it is neither a trace nor a step table."""
    if head[:4] == b"PAR1":
        return OPERATIONS
    if head[:2] == b"\x1f\x8b":
        try:
            head = zlib.decompressobj(31).decompress(head, 65_536)
        except zlib.error:
            return ""
    first = head.split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    return _kind_of_columns(first.rstrip("\r").split(","))


def read(path: Path, name: str) -> Part:
    """Read and check one file.

    raises TraceError: it is no such table, is too large, or a row of it cannot be true
    raises OSError: it cannot be read
    """
    with path.open("rb") as file:
        magic = file.read(4)
    line: tuple[str, int] = ("row", 1) if magic == b"PAR1" else ("line", 2)
    frame = _parquet(path) if magic == b"PAR1" else _csv(_text(path, magic))
    if not len(frame):
        raise TraceError("no rows")
    kind = _kind_of_columns(list(frame.columns))
    if kind == STEPS:
        return Part(name=name, kind=kind, columns=_step_rows(frame, line))
    frame, left_out = sifted(placed(in_seconds(frame)), _NUMBERS)
    return Part(name=name, kind=kind, columns=_operations(frame, line), left_out=left_out)


def _kind_of_columns(names: Sequence[str]) -> str:
    known = {_canonical(name) for name in names}
    known |= {SCALED[name][0] for name in known if name in SCALED}
    if "end_s" in known and "start_s" in known:
        known.add("duration_s")
    if known.issuperset(_NEEDED):
        return OPERATIONS
    return STEPS if known.issuperset(("step", "rank", "step_s")) else ""


def _canonical(name: str) -> str:
    plain = name.strip().strip('"').lower()
    return _ALIASES.get(plain, plain)


def _chosen(names: Sequence[str]) -> dict[str, str]:
    """Column as printed -> its name here, of the columns that are wanted; the contract's own name goes before an alias.

    raises TraceError: columns are missing
    """
    if len(names) > MOST_COLUMNS:
        raise TraceError(f"{len(names)} columns, at most {MOST_COLUMNS} are read")
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: name.strip().lower() in _ALIASES):
        found.setdefault(_canonical(name), name)
    kind = _kind_of_columns(names)
    if not kind:
        lacking = [name for name in _NEEDED if name not in found]
        raise TraceError(f"no trace (it lacks {', '.join(lacking)}) and no step table (step, rank, step_s)")
    phases = {name for name in found if name.endswith("_s")}
    wanted = {*_NEEDED, *_OPTIONAL, *SCALED, "end_s"} if kind == OPERATIONS else {"step", "rank", *phases}
    return {printed: name for name, printed in found.items() if name in wanted}


def _text(path: Path, magic: bytes) -> bytes:
    """The text of a CSV file, unpacked if need be, never more than `MOST_BYTES`."""
    with path.open("rb") as file:
        packed = magic[:2] == b"\x1f\x8b"
        data = _unpacked(iter(lambda: file.read(1 << 20), b"")) if packed else file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise TraceError(f"over {MOST_BYTES} bytes of text")
    return data.rstrip(b"\r\n \t")


def _unpacked(blocks: Iterable[bytes]) -> bytes:
    unpacker, out = zlib.decompressobj(31), bytearray()
    for block in blocks:
        left = block
        while left and len(out) <= MOST_BYTES:
            if unpacker.eof:  # gzip files may stand one behind the other
                unpacker = zlib.decompressobj(31)
            try:
                out += unpacker.decompress(left, 1 << 20)
            except zlib.error as error:
                raise TraceError(f"broken gzip after {len(out)} bytes of text: {error}") from None
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        if len(out) > MOST_BYTES:
            break
    if not unpacker.eof and len(out) <= MOST_BYTES:
        raise TraceError(f"gzip ends in the middle, after {len(out)} bytes of text")
    return bytes(out)


def _csv(data: bytes) -> Any:
    import pandas as pd

    if not data:
        raise TraceError("empty")
    if b"\x00" in data[:65_536]:
        raise TraceError("not text")
    header = data[:65_536].split(b"\n", 1)[0].decode("utf-8-sig", "replace").rstrip("\r").split(",")
    header = [name.strip().strip('"') for name in header]
    chosen = _chosen(header)
    text = {printed: str for printed, name in chosen.items() if name in ("op", "group")}
    try:
        frame = pd.read_csv(
            io.BytesIO(data), encoding="utf-8-sig", header=0, names=header,
            dtype=text, skip_blank_lines=False, low_memory=False, keep_default_na=False, na_values=[""], nrows=MOST_ROWS + 1,
        )  # fmt: skip
    except (ValueError, OverflowError) as error:  # pandas' own errors are ValueErrors, and name the line
        raise TraceError(" ".join(str(error).split())[:300]) from None
    if len(frame) > MOST_ROWS:
        raise TraceError(f"over {MOST_ROWS} rows")
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes what is too much for an index
        raise TraceError("line 2: more fields than the header names")
    return frame[list(chosen)].rename(columns=chosen)


def _parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            chosen = _chosen(file.schema_arrow.names)
            if file.metadata.num_rows > MOST_ROWS:
                raise TraceError(f"{file.metadata.num_rows} rows, at most {MOST_ROWS} are read")
            batches, size = [], 0
            for batch in file.iter_batches(batch_size=65_536, columns=list(chosen)):
                batches.append(batch)
                size += batch.nbytes
                if size > MOST_BYTES:
                    raise TraceError(f"over {MOST_BYTES} bytes of columns")
            table = pa.Table.from_batches(batches, schema=batches[0].schema) if batches else pa.table({})
    except (pa.ArrowException, OSError) as error:
        raise TraceError(f"broken Parquet: {' '.join(str(error).split())[:200]}") from None
    return table.to_pandas().rename(columns=chosen)


def _operations(frame: Any, line: tuple[str, int]) -> dict[str, np.ndarray]:
    columns = {name: _numbers(frame, name, line, whole=True) for name in ("step", "rank")}
    columns["dp"] = _numbers(frame, "dp", line, whole=True, most=_LARGEST)
    columns["pp"] = _numbers(frame, "pp", line, whole=True, most=_LARGEST_COORDINATE)
    columns |= {name: _numbers(frame, name, line) for name in ("start_s", "duration_s")}
    columns |= {
        name: _numbers(frame, name, line, whole=True, optional=True)
        for name in ("seq", "microbatch")
        if name in frame.columns
    }
    if "tp" in frame.columns:
        columns["tp"] = _numbers(frame, "tp", line, whole=True, optional=True, most=_LARGEST_COORDINATE)
    columns["op"] = _words(frame, "op")
    if (bare := columns["op"] == "").any():
        raise TraceError(f"{_place(frame, line, bare)}: no op")
    if "group" in frame.columns:
        columns["group"] = _words(frame, "group")
    _refuse_repeats(frame, columns, line, [name for name in ("step", "rank", "op", "start_s", "seq", "microbatch") if name in columns])
    return columns


def _step_rows(frame: Any, line: tuple[str, int]) -> dict[str, np.ndarray]:
    columns = {name: _numbers(frame, name, line, whole=True) for name in ("step", "rank")}
    columns["step_s"] = _numbers(frame, "step_s", line)
    for name in frame.columns:
        if name not in columns:
            columns[str(name)] = _numbers(frame, name, line, optional=True, gap=np.nan)
    _refuse_repeats(frame, columns, line, ["step", "rank"])
    return columns


def _place(frame: Any, line: tuple[str, int], bad: np.ndarray) -> str:
    """Where the first bad row stands in the file; the frame's index counts the rows as they were read."""
    return f"{line[0]} {int(frame.index[int(np.argmax(bad))]) + line[1]}"


def _numbers(
    frame: Any, name: str, line: tuple[str, int], *, whole: bool = False, optional: bool = False, gap: float = _NOTHING,
    most: float = _LARGEST,
) -> np.ndarray:  # fmt: skip
    """A column of finite numbers. optional: an empty field, or a negative one, is `gap`. Only a start may be negative."""
    import pandas as pd

    column = frame[name]
    try:
        values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise TraceError(f"column {name} holds no numbers: {str(error)[:100]}") from None
    empty = column.isna().to_numpy() if optional else np.zeros(len(values), dtype=bool)
    values = np.where(empty, _NOTHING if whole else 0.0, values)
    with np.errstate(invalid="ignore"):
        bad = ~(np.abs(values) < most)
        if whole:
            bad |= values != np.floor(values)
        if name != "start_s" and not (optional and whole):
            bad |= values < 0
    if bad.any():
        said = str(column.iloc[int(np.argmax(bad))])[:60]
        what = "a whole number" if whole else "a number of seconds"
        limits = f"within {most:.0e}" if name == "start_s" else f"from 0 to {most:.0e}"
        raise TraceError(f"{_place(frame, line, bad)}: {name} is {said!r}, not {what} {limits}")
    if whole:
        return np.asarray(np.where(values < 0, _NOTHING, values)).astype(np.int64)
    return np.asarray(np.where(empty, gap, values))


def _words(frame: Any, name: str) -> np.ndarray:
    """A column of short texts, "" where nothing stands. Told apart once each, not row by row."""
    column = frame[name].astype("category")
    texts = np.array([*(str(text).strip().lower()[:100] for text in column.cat.categories), ""], dtype=object)
    return np.asarray(texts[column.cat.codes.to_numpy()])


def _refuse_repeats(frame: Any, columns: Mapping[str, np.ndarray], line: tuple[str, int], keys: Sequence[str]) -> None:
    import pandas as pd

    again = pd.DataFrame({name: columns[name] for name in keys}).duplicated().to_numpy()
    if "duration_s" in columns:
        again = again & (columns["duration_s"] > 0)  # marks without length may stand on one another
    if again.any():
        at = int(np.argmax(again))
        what = ", ".join(f"{name} {columns[name][at]}" for name in keys[:3])
        raise TraceError(f"{_place(frame, line, again)}: a second row for {what}")
