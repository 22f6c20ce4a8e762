"""An agent's batch as it comes over the wire (docs/agent-protocol.md), and the observations it becomes."""

import base64
import binascii
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec
import numpy as np

from holdfast.events import (
    Beat,
    Beats,
    Change,
    Changes,
    Claims,
    Dump,
    Dumps,
    Finding,
    Lines,
    Outcome,
    Received,
    Samples,
    Steps,
)
from holdfast.topology import JobId, Kind, NodeId, Target, job_of, rank_of
from holdfast.verdict import Json
from holdfast.wire import Heard


class RecordError(ValueError):
    """A batch that is not one; the message names the record and the field."""


class _Record(msgspec.Struct, kw_only=True, tag_field="type"):
    at: float


class BeatRecord(_Record, kw_only=True, tag="beat"):
    ranks: tuple[Beat, ...] = ()


class StepsRecord(_Record, kw_only=True, tag="steps"):
    ranks: list[int]
    steps: list[int]
    ended_at: list[float]
    signals: tuple[str, ...]
    values: list[list[float | None]]


class ProcessRecord(_Record, kw_only=True, tag="process"):
    pid: int
    state: Literal["running", "stopped", "uninterruptible", "zombie", "exited", "gone"]
    rank: int | None = None
    start_time: int = 0
    name: str = ""
    exit_code: int | None = None
    signal: int | None = None
    since: float = 0.0
    wchan: str = ""
    parent: int = 0


class JobRecord(_Record, kw_only=True, tag="job"):
    state: Literal["started", "restarting", "finished", "failed", "stopped"]
    attempt: int = 0
    exit_code: int | None = None
    signal: int | None = None
    world_size: int | None = None
    pid: int = 0
    facts: dict[str, Json] = {}


class LinesRecord(_Record, kw_only=True, tag="lines"):
    file: str
    first: int
    lines: tuple[str, ...]
    rank: int | None = None


class DumpRecord(_Record, kw_only=True, tag="dump"):
    order: str
    name: str
    rank: int | None = None
    encoding: Literal["utf8", "base64"] = "utf8"
    data: str = ""
    error: str = ""
    complete: bool = False


class OutcomeRecord(_Record, kw_only=True, tag="outcome"):
    order: str
    done: bool
    refused: bool = False
    note: str = ""


class ClaimsRecord(_Record, kw_only=True, tag="claims"):
    findings: tuple[Finding, ...] = ()
    whole: bool = False


class SamplesRecord(_Record, kw_only=True, tag="samples"):
    kind: Kind
    targets: tuple[str, ...]
    signals: tuple[str, ...]
    values: list[list[float | None]]


Record = (
    BeatRecord | StepsRecord | ProcessRecord | JobRecord | LinesRecord | DumpRecord | OutcomeRecord | ClaimsRecord | SamplesRecord
)


class Batch(msgspec.Struct, kw_only=True):
    """One numbered batch. Unknown keys are ignored: a newer agent may say more."""

    agent: str
    boot: str
    sequence: int
    job: str = ""
    node: str = ""
    attempt: int = 0
    sent_at: float = 0.0
    dropped: int = 0
    records: tuple[Record, ...] = ()


_decoder = msgspec.json.Decoder(Batch)


def batch_of(body: bytes) -> Batch:
    """Decode a request's body.

    raises RecordError: not JSON, a field that is missing or of the wrong type, a number of the batch below 1
    """
    try:
        batch = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)) from error
    if batch.sequence < 1 or not batch.agent or not batch.boot:
        raise RecordError("agent and boot must be named and sequence be at least 1")
    return batch


def observations_of(batch: Batch) -> list[Heard]:
    """Turn a batch into events: first that it came, then its contents in their order.

    raises RecordError: columns of different length, data that is not base64; the message names the record
    """
    said: list[Heard] = [
        Received(
            at=batch.sent_at, **_whence(batch), agent=batch.agent, boot=batch.boot, sequence=batch.sequence,
            attempt=batch.attempt, dropped=batch.dropped,
        )
    ]  # fmt: skip
    for n, record in enumerate(batch.records):
        try:
            said.extend(_TURN[type(record)](batch, record))
        except (ValueError, binascii.Error) as error:
            raise RecordError(f"records[{n}] ({record.__struct_config__.tag}): {error}") from error
    return said


def _whence(batch: Batch) -> dict[str, Any]:
    return {"source": f"agent:{batch.agent}", "job": JobId(batch.job), "node": NodeId(batch.node)}


def _beats(batch: Batch, record: BeatRecord) -> Iterator[Heard]:
    yield Beats(at=record.at, **_whence(batch), attempt=batch.attempt, beats=record.ranks, dropped=batch.dropped)


def _steps(batch: Batch, record: StepsRecord) -> Iterator[Heard]:
    rows = len(record.ranks)
    if {len(record.steps), len(record.ended_at), len(record.values)} != {rows}:
        raise ValueError("ranks, steps, ended_at and values differ in length")
    if any(len(row) != len(record.signals) for row in record.values):
        raise ValueError("a row of values is not as long as signals")
    values = np.array([[np.nan if v is None else v for v in row] for row in record.values], dtype=np.float64)
    yield Steps(
        at=record.at, **_whence(batch), ranks=np.array(record.ranks, dtype=np.int64),
        steps=np.array(record.steps, dtype=np.int64), ended_at=np.array(record.ended_at, dtype=np.float64),
        signals=record.signals, values=values.reshape(rows, len(record.signals)),
    )  # fmt: skip


def _process(batch: Batch, record: ProcessRecord) -> Iterator[Heard]:
    if record.rank is None:
        target = Target(Kind.PROCESS, str(record.pid), node=batch.node, job=batch.job)
    else:
        target = rank_of(batch.job, record.rank, node=batch.node)
    detail: dict[str, Json] = {
        "pid": record.pid, "start_time": record.start_time, "name": record.name, "wchan": record.wchan,
    }  # fmt: skip
    change = Change(
        target=target, state=record.state, at=record.since or record.at, exit_code=record.exit_code,
        signal=record.signal, attempt=batch.attempt, detail=detail,
    )  # fmt: skip
    yield Changes(at=record.at, **_whence(batch), changes=(change,))


def _job(batch: Batch, record: JobRecord) -> Iterator[Heard]:
    change = Change(
        target=job_of(batch.job), state=record.state, at=record.at, exit_code=record.exit_code, signal=record.signal,
        attempt=record.attempt, detail={**record.facts, "world_size": record.world_size, "pid": record.pid},
    )  # fmt: skip
    yield Changes(at=record.at, **_whence(batch), changes=(change,))


def _lines(batch: Batch, record: LinesRecord) -> Iterator[Heard]:
    yield Lines(
        at=record.at, **_whence(batch), file=record.file, first=record.first, lines=record.lines, rank=record.rank
    )


def _dump(batch: Batch, record: DumpRecord) -> Iterator[Heard]:
    data = record.data.encode() if record.encoding == "utf8" else base64.b64decode(record.data, validate=True)
    if record.rank is None:
        target = Target(Kind.NODE, batch.node, node=batch.node, job=batch.job)
    else:
        target = rank_of(batch.job, record.rank, node=batch.node)
    dump = Dump(target=target, name=record.name, data=data, error=record.error)
    yield Dumps(at=record.at, **_whence(batch), order=record.order, dumps=(dump,), complete=record.complete)


def _outcome(batch: Batch, record: OutcomeRecord) -> Iterator[Heard]:
    yield Outcome(at=record.at, order=record.order, done=record.done, refused=record.refused, note=record.note)


def _claims(batch: Batch, record: ClaimsRecord) -> Iterator[Heard]:
    foreign = next((f for f in record.findings if f.target.node not in ("", batch.node)), None)
    if foreign is not None:
        raise ValueError(f"a finding on {foreign.target.node!r} from an agent of {batch.node!r}")
    yield Claims(at=record.at, **_whence(batch), findings=record.findings, whole=record.whole)


def _samples(batch: Batch, record: SamplesRecord) -> Iterator[Heard]:
    if len(record.values) != len(record.targets) or any(len(row) != len(record.signals) for row in record.values):
        raise ValueError("values do not have a row for each target and a column for each signal")
    values = np.array([[np.nan if v is None else v for v in row] for row in record.values], dtype=np.float64)
    yield Samples(
        at=record.at, **_whence(batch), targets=tuple(Target(record.kind, id, node=batch.node) for id in record.targets),
        signals=record.signals, values=values.reshape(len(record.targets), len(record.signals)),
    )  # fmt: skip


_TURN: dict[type[_Record], Callable[[Batch, Any], Iterator[Heard]]] = {
    BeatRecord: _beats,
    StepsRecord: _steps,
    ProcessRecord: _process,
    JobRecord: _job,
    LinesRecord: _lines,
    DumpRecord: _dump,
    OutcomeRecord: _outcome,
    ClaimsRecord: _claims,
    SamplesRecord: _samples,
}
