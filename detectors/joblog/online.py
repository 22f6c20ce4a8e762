"""Says why a job ended with an error, as soon as its last lines are in."""

from collections.abc import Iterator

import msgspec

from detectors.joblog.judge import MACHINE_DEPTH, MEMORY_S, Case, Judged, judge
from detectors.joblog.marks import Mark, Memory, Whose
from detectors.joblog.novelty import Said, standing_out
from detectors.joblog.reading import Reading
from detectors.joblog.rules import Rules
from detectors.joblog.unusual import Block, Unusual, UnusualMemory
from holdfast.events import Change, Changes, Finding, Lines, Observation, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.topology import JobId, Kind, job_of
from holdfast.verdict import Evidence, Json

MOST_JOBS = 1024
MOST_NODES, MOST_REMEMBERED = 16_384, 8
# Jobs of which it is known what they usually say, the ones last heard.
MOST_LEARNED = 64

_DEVICES = ("NVRM: ", "SXid (", "fallen off the bus", "amdgpu", "uncorrectable", "Uncorrectable")

_UNSURE = 0.3
_OWN_FAULTS = frozenset({Fault.USER_CODE, Fault.WORKLOAD})


class _Life(msgspec.Struct):
    """One job's attempt.

    failed_at: by the agent's clock, 0.0 while it runs; due: to be judged, at due_at by the service's clock, 0.0 not set yet
    """

    attempt: int = 0
    failed_at: float = 0.0
    due: bool = False
    due_at: float = 0.0
    claim: Finding | None = None
    said: int = 0
    started: bool = False
    step: int = -1


class JobLog:
    """Keeps what the lines of each job mean, and judges them once when the job has ended with an error.

    settle_s: how long after the end the last lines of other nodes are waited for; rules: a file of one's own rules
    """

    consumes = (Lines, Changes, Steps)

    def __init__(self, *, settle_s: float = 0.5, rules: str = "") -> None:
        self.settle_s = settle_s
        self._rules = Rules.read(rules)
        self._lives: dict[str, _Life] = {}
        self._readings: dict[str, Reading] = {}
        self._nodes: dict[str, list[Mark]] = {}
        self._unusual: dict[str, Unusual] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if isinstance(seen, Lines) and seen.node:
            self._remember(seen)
        if not seen.job:
            return
        life = self._life(seen.job)
        if isinstance(seen, Lines):
            self._on_lines(seen)
        elif isinstance(seen, Steps):
            yield from self._on_steps(life, seen)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                yield from self._on_change(life, change, seen)

    def tick(self, now: float) -> Iterator[Finding]:
        for name, life in self._lives.items():
            if life.due and not life.due_at:  # an agent's clock that is ahead must not put the verdict off
                life.due_at = min(now, life.failed_at) + self.settle_s
            if life.due and now >= life.due_at:
                life.due, life.due_at = False, 0.0
                finding = self._finding(JobId(name), life)
                if finding is not None:
                    life.claim = finding
                    yield finding

    def _on_lines(self, seen: Lines) -> None:
        if not seen.lines:
            return
        block = ("\n".join(line.replace("\n", " ") for line in seen.lines) + "\n").encode("utf-8", "replace")
        owner = Whose(rank=-1 if seen.rank is None else seen.rank, node=seen.node)
        name = f"{seen.node}:{seen.file}" if seen.node else seen.file
        if seen.job not in self._readings:
            self._readings[seen.job] = Reading(self._rules)
        self._readings[seen.job].feed(name, seen.first, block, owner, heard_at=seen.at)
        unusual = self._unusual.pop(seen.job, None) or Unusual()
        while len(self._unusual) >= MOST_LEARNED:
            del self._unusual[next(iter(self._unusual))]
        self._unusual[seen.job] = unusual
        unusual.feed(Block(seen.at, name, seen.first, block[:-1], seen.node or name))

    def _remember(self, seen: Lines) -> None:
        """Keep what a node tells of its devices, whatever job it runs: the next one may find one of them without memory."""
        for n, line in enumerate(seen.lines):
            if not any(word in line for word in _DEVICES):
                continue
            meaning = self._rules.of_text(line)
            if meaning is None or meaning.role != "root" or meaning.depth < MACHINE_DEPTH:
                continue
            known = self._nodes.pop(seen.node, [])
            self._nodes[seen.node] = [
                *(mark for mark in known[-MOST_REMEMBERED + 1 :] if mark.at > seen.at - MEMORY_S),
                Mark(meaning, f"{seen.node}:{seen.file}", seen.first + n, line[:2000], node=seen.node, at=seen.at),
            ]
            while len(self._nodes) > MOST_NODES:
                del self._nodes[next(iter(self._nodes))]

    def _on_steps(self, life: _Life, seen: Steps) -> Iterator[Finding]:
        if len(seen.steps):
            life.step = max(life.step, int(seen.steps.max()))
            if seen.job in self._unusual and not life.failed_at:
                self._unusual[seen.job].stepped(float(seen.ended_at.max()))
        if life.claim is not None and not life.due and life.started and len(seen.steps):
            claim, life.claim = life.claim, None
            yield msgspec.structs.replace(claim, at=seen.at, cleared=True, evidence=())

    def _on_change(self, life: _Life, change: Change, seen: Changes) -> Iterator[Finding]:
        if (
            change.target.kind is Kind.RANK
            and change.state in ("exited", "gone")
            and (change.exit_code or change.signal)
        ):
            self._due(life, change)
        elif change.target.kind is not Kind.JOB:
            return
        elif change.state == "failed":
            self._due(life, change)
        elif change.state in ("started", "restarting") and change.attempt > life.attempt:
            life.attempt, life.due, life.started, life.failed_at = change.attempt, False, True, 0.0
            self._readings.pop(seen.job, None)
            if seen.job in self._unusual:
                self._unusual[seen.job].restart()
        elif change.state in ("finished", "stopped"):
            life.due = False
            self._readings.pop(seen.job, None)
            self._unusual.pop(seen.job, None)
            if life.claim is not None:
                claim, life.claim = life.claim, None
                yield msgspec.structs.replace(claim, at=change.at, cleared=True, evidence=())

    def _due(self, life: _Life, change: Change) -> None:
        if change.attempt < life.attempt or life.failed_at:
            return
        life.attempt, life.failed_at, life.due, life.started = change.attempt, change.at, True, False

    def _finding(self, job: JobId, life: _Life) -> Finding | None:
        reading = self._readings.get(job)
        if reading is None:
            return None
        reading.close()
        told = judge(
            list(reading.marks.values()),
            Case(
                steps=reading.steps, ended=reading.ended, nodes=len(reading.nodes | reading.heard), places=reading.places,
                lengths=reading.lengths, history=[mark for node in sorted(reading.heard) for mark in self._nodes.get(node, [])],
            ),
        )  # fmt: skip
        root = told.root
        if root is None or (told.judgement is Judgement.UNDECIDED and root.meaning.role == "cascade"):
            return self._unknown(job, life, reading)
        life.said += 1
        return Finding(
            at=life.failed_at, id=f"joblog/{job}/{life.attempt}/{life.said}", job=job, target=job_of(job),
            perception=Perception.LOG_ERROR, symptom=Symptom.CRASH if told.symptom is Symptom.NONE else told.symptom, fault=told.fault,
            check=f"joblog.{root.meaning.id}", judgement=told.judgement, severity=Severity.ERROR, cause=root.meaning.cause,
            confidence=told.confidence, culprits=told.culprits, evidence=_evidence(root), action=_action(told),
            detail=_detail(told, root, life),
        )  # fmt: skip

    def _unknown(self, job: JobId, life: _Life, reading: Reading) -> Finding | None:
        """No rule knows why: what the job never said before, and what one node says alone. None where nothing stands out."""
        known: dict[str, set[int]] = {}
        for mark in reading.marks.values():
            known.setdefault(mark.file, set()).update((mark.line, mark.last_line, *(line for line, _ in mark.trace)))
        novel, alone = self._unusual[job].stand_out(known) if job in self._unusual else ([], [])
        if not any(said.telling for said in novel):
            return None
        life.said += 1
        return Finding(
            at=life.failed_at, id=f"joblog/{job}/{life.attempt}/{life.said}", job=job, target=job_of(job),
            perception=Perception.LOG_ERROR, symptom=Symptom.CRASH, fault=Fault.UNKNOWN, check="joblog.unknown",
            judgement=Judgement.UNDECIDED, severity=Severity.WARNING, confidence=_UNSURE, evidence=_said(novel), action=Action.WATCH,
            detail={"attempt": life.attempt, "step": life.step} | standing_out(novel, alone),
        )  # fmt: skip

    def _life(self, job: str) -> _Life:
        life = self._lives.pop(job, None) or _Life()
        self._lives[job] = life
        if len(self._lives) > MOST_JOBS:
            oldest = next(iter(self._lives))
            del self._lives[oldest]
            self._readings.pop(oldest, None)
        return life

    def snapshot(self) -> bytes:
        kept = {job: reading.memory() for job, reading in self._readings.items()}
        unusual = {job: one.memory() for job, one in self._unusual.items()}
        return msgspec.msgpack.encode((self._lives, kept, self._nodes, unusual))

    def restore(self, memory: bytes) -> None:
        self._lives, kept, self._nodes, unusual = msgspec.msgpack.decode(
            memory, type=tuple[dict[str, _Life], dict[str, Memory], dict[str, list[Mark]], dict[str, UnusualMemory]]
        )
        self._readings, self._unusual = {}, {}
        for job, what in unusual.items():
            self._unusual[job] = Unusual()
            self._unusual[job].recall(what)
        for job, known in kept.items():
            reading = self._readings[job] = Reading(self._rules)
            reading.recall(known)


def _action(told: Judged) -> Action:
    """A first appearance of an error of the job's own is tried once more; the remedier knows whether it came back."""
    return Action.RESTART if told.fault in _OWN_FAULTS and told.action is Action.STOP else told.action


def _evidence(root: Mark) -> tuple[Evidence, ...]:
    trace = tuple(Evidence(root.file, line, text[:400]) for line, text in root.trace[-20:] if line != root.line)
    return (Evidence(root.file, root.line, root.text[:1000]), *trace)


def _said(novel: list[Said]) -> tuple[Evidence, ...]:
    return tuple(Evidence(said.file, said.line, said.text) for said in novel)


def _detail(told: Judged, root: Mark, life: _Life) -> dict[str, Json]:
    return {
        "domain": told.domain,
        "root": {"file": root.file, "line": root.line, "text": root.text[:1000]},
        "signature": root.signature,
        "rank": root.rank if root.rank >= 0 else None,
        "node": root.node or None,
        "cascade": told.cascade,
        "attempt": life.attempt,
        "step": life.step,
    }
