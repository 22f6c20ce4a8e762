"""Observations in few words, and a detector's answers to a stream of them: what the detectors' tests are written in."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from holdfast.events import Beat, Beats, Change, Changes, Finding, Lines, Observation, Received, Samples, Steps
from holdfast.topology import JobId, Kind, NodeId, Target, job_of, rank_of

JOB = JobId("j")


def where(node: str = "n0", job: str = "j") -> dict[str, Any]:
    return {"source": f"agent:{node}", "job": JobId(job), "node": NodeId(node)}


def job(at: float, state: str, *, attempt: int = 0, node: str = "n0", **known: Any) -> Changes:
    change = Change(target=job_of("j"), state=state, at=at, attempt=attempt, **known)
    return Changes(at=at, changes=(change,), **where(node))


def rank(
    at: float, number: int, state: str, *, attempt: int = 0, node: str = "n0", wchan: str = "", **known: Any
) -> Changes:
    detail = {"wchan": wchan}
    change = Change(target=rank_of("j", number), state=state, at=at, attempt=attempt, detail=detail, **known)
    return Changes(at=at, changes=(change,), **where(node))


def beats(
    at: float,
    *,
    step: int = -1,
    stepped_at: float = 0.0,
    ranks: int = 4,
    attempt: int = 0,
    node: str = "n0",
    **known: Any,
) -> Beats:
    rows = tuple(Beat(rank=n, step=step, stepped_at=stepped_at, **known) for n in range(ranks))
    return Beats(at=at, attempt=attempt, beats=rows, **where(node))


def steps(at: float, step: int, columns: Mapping[str, Sequence[float]], *, first: int = 0, node: str = "n0") -> Steps:
    """One step of as many ranks as the columns are long."""
    values = np.array(list(columns.values()), dtype=np.float64).T
    count = len(values)
    return Steps(
        at=at, ranks=np.arange(first, first + count), steps=np.full(count, step), ended_at=np.full(count, at),
        signals=tuple(columns), values=values, **where(node),
    )  # fmt: skip


def lines(
    at: float, *texts: str, first: int = 1, file: str = "rank0.log", rank: int | None = None, source: str = ""
) -> Lines:
    known = where() | ({"source": source} if source else {})
    return Lines(at=at, file=file, first=first, lines=texts, rank=rank, **known)


def received(at: float, *, node: str = "n0", job: str = "j") -> Received:
    return Received(at=at, agent=node, boot="b", sequence=1, **where(node, job))


def samples(at: float, columns: Mapping[str, Sequence[float]], *, kind: Kind = Kind.DEVICE, job: str = "j") -> Samples:
    values = np.array(list(columns.values()), dtype=np.float64).T
    targets = tuple(Target(kind, str(n), node="n0") for n in range(len(values)))
    known: dict[str, Any] = {"source": "page:n0", "job": JobId(job), "node": NodeId("n0")}
    return Samples(at=at, targets=targets, signals=tuple(columns), values=values, **known)


def answers(detector: Any, stream: Iterable[Observation | float]) -> list[Finding]:
    """What it says to observations, and to ticks where a number stands; its memory is given back after each."""
    said: list[Finding] = []
    for seen in stream:
        said.extend(detector.tick(seen) if isinstance(seen, int | float) else detector.observe(seen))
        detector.restore(detector.snapshot())
    return said


def claims(said: Iterable[Finding]) -> list[str]:
    """`check target` of each, a minus before what was withdrawn."""
    return [f"{'-' if f.cleared else ''}{f.check} {f.target.kind} {f.target.id}" for f in said]
