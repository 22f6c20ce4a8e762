"""Claims about the processes of a job: one that is stopped, stuck in the kernel, killed or gone; a job that failed."""

import signal as signals
from collections.abc import Iterator

import msgspec

from holdfast.events import Beats, Change, Changes, Finding, Observation
from holdfast.faults import Action, Fault, Judgement, Perception, Symptom
from holdfast.topology import JobId, Kind, Target
from holdfast.verdict import Culprit, Evidence, Json

MOST_JOBS = 1024

# After one process of a job has failed its launcher ends the others: who follows within this time is a victim.
_VICTIM_S = 30.0

# What is kept of the others for whoever looks later; the claim itself does not wait for it.
_WANTS = ("processes", "stacks", "flight_recorder")

# States that are a claim if they last.
_LASTING = frozenset({"stopped", "gone", "uninterruptible"})

_FILE_SYSTEM_WAITS = (
    "nfs", "rpc_", "ext4", "xfs", "jbd2", "fuse", "ceph", "lustre", "ll_", "ptlrpc", "gpfs", "cxi", "blk_",
    "io_schedule",
)  # fmt: skip


class Process(msgspec.Struct):
    """A process as last heard of. since: when its state began; claimed: the check claimed of it, "" if none."""

    target: Target
    state: str
    since: float
    wchan: str = ""
    claimed: str = ""


class Job(msgspec.Struct):
    """One job: its processes by target, how far it is, and which of its processes failed first in this attempt.

    lasting: the targets of those in a state that is a claim if it lasts
    """

    attempt: int = 0
    step: int = -1
    best: int = -1
    moved_at: float = 0.0
    heard_at: float = 0.0
    processes: dict[str, Process] = {}
    lasting: list[str] = []
    failed: list[str] = []
    failed_at: float = 0.0
    signal: int | None = None
    stepped: bool = False
    new_ground: bool = False
    claims: dict[str, Finding] = {}
    said: int = 0


class Processes:
    """One detector for one idea: the processes of a job as their agents see them.

    stopped_s: how long a process may be stopped (a person with a debugger is faster than a fault is old)
    uninterruptible_s: how long one may sit in the kernel while its job does not step
    gone_s: how long a rank may be gone with no exit status before the job that ends well has ended
    Also tells the remedier of progress: the first step of an attempt, and the first step past all earlier attempts.
    """

    consumes = (Changes, Beats)

    def __init__(self, *, stopped_s: float = 3.0, uninterruptible_s: float = 10.0, gone_s: float = 3.0) -> None:
        self.stopped_s, self.uninterruptible_s, self.gone_s = stopped_s, uninterruptible_s, gone_s
        self._jobs: dict[str, Job] = {}

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not seen.job:
            return
        job = self._job(seen.job)
        if isinstance(seen, Beats):
            yield from self._on_beats(job, seen)
        elif isinstance(seen, Changes):
            for change in seen.changes:
                yield from self._on_change(job, change, seen.job)

    def tick(self, now: float) -> Iterator[Finding]:
        for name, job in self._jobs.items():
            # judged by the job's own last sign of life: while nothing is heard nothing has lasted longer
            for process in [job.processes[key] for key in job.lasting]:
                if not process.claimed:
                    yield from self._lasting(job, process, JobId(name))

    # --- what comes in

    def _on_beats(self, job: Job, seen: Beats) -> Iterator[Finding]:
        if seen.attempt < job.attempt:
            return
        job.heard_at = max(job.heard_at, seen.at)
        step = max((beat.step for beat in seen.beats), default=-1)
        stepped_at = max((beat.stepped_at for beat in seen.beats), default=0.0)
        if step < 0 or (job.stepped and stepped_at <= job.moved_at):
            return
        job.step, job.moved_at = step, stepped_at
        if not job.stepped or (step > job.best and not job.new_ground):
            job.new_ground = step > job.best
            job.stepped = True
            yield _news(job, seen.job, seen.at)
        job.best = max(job.best, step) if job.new_ground else job.best

    def _on_change(self, job: Job, change: Change, name: JobId) -> Iterator[Finding]:
        if change.target.kind is Kind.JOB:
            yield from self._on_job(job, change, name)
        elif change.attempt >= job.attempt:
            yield from self._on_process(job, change, name)

    def _on_job(self, job: Job, change: Change, name: JobId) -> Iterator[Finding]:
        if change.attempt > job.attempt:
            job.attempt = change.attempt
            yield from _withdraw(job, change.at)
            job.best = max(job.best, job.step)
            job.processes, job.lasting, job.failed, job.stepped, job.new_ground = {}, [], [], False, False
        if change.state == "finished":
            yield _finished(job, name, change)
        elif change.state == "failed":
            for process in job.processes.values():
                if process.state == "gone" and not process.claimed:
                    yield from self._gone(job, process, name)
            if f"job.failed {change.target}" not in job.claims:  # an agent that begins anew says it again
                yield _claim(job, self._job_failed(job, change, name))

    def _on_process(self, job: Job, change: Change, name: JobId) -> Iterator[Finding]:
        key = str(change.target)
        old = job.processes.get(key)
        wchan = str(change.detail.get("wchan", ""))
        if old is not None and old.state == change.state:  # an agent that begins anew says it again
            old.wchan = wchan or old.wchan
            return
        process = Process(change.target, change.state, change.at, wchan)
        job.processes[key] = process
        if (key in job.lasting) != (change.state in _LASTING):
            job.lasting.remove(key) if key in job.lasting else job.lasting.append(key)
        if old is not None and old.claimed and change.state == "running":
            yield from _withdraw(job, change.at, check=old.claimed, target=change.target)
        if change.state == "exited" and change.target.kind is Kind.RANK and (change.exit_code or change.signal):
            yield from self._exited(job, process, change, name)

    # --- what is claimed

    def _lasting(self, job: Job, process: Process, name: JobId) -> Iterator[Finding]:
        lasted_s = job.heard_at - process.since
        if process.state == "stopped" and lasted_s >= self.stopped_s:
            yield self._stopped(job, process, name)
        elif process.state == "gone" and lasted_s >= self.gone_s:
            yield from self._gone(job, process, name)
        elif process.state == "uninterruptible" and process.target.kind is Kind.RANK:
            still_s = min(lasted_s, job.heard_at - job.moved_at)
            if still_s >= self.uninterruptible_s:
                yield self._in_kernel(job, process, name)

    def _stopped(self, job: Job, process: Process, name: JobId) -> Finding:
        process.claimed = "process.stopped"
        alive = [p for p in job.processes.values() if p.target.kind is Kind.RANK and p.state not in ("exited", "gone")]
        everyone = len(alive) > 1 and all(p.state == "stopped" for p in alive)
        text = f"{process.target.kind} {process.target.id} is in state T (stopped) since {process.since:.3f}"
        finding = _finding(job, name, process, "process.stopped", "stopped", Fault.HOST, Symptom.HANG, 0.98, text)
        if everyone:  # somebody stopped the whole job: nobody in it is to blame
            finding = msgspec.structs.replace(
                finding, judgement=Judgement.NOBODY, culprits=(), action=Action.WATCH, wants=()
            )
        return _claim(job, finding)

    def _in_kernel(self, job: Job, process: Process, name: JobId) -> Finding:
        process.claimed = "process.uninterruptible"
        storage = any(word in process.wchan for word in _FILE_SYSTEM_WAITS)
        fault = Fault.STORAGE if storage else Fault.HOST
        where = f", in {process.wchan}" if process.wchan not in ("", "0") else ""
        who = f"{process.target.kind} {process.target.id}"
        text = f"{who} is in state D (uninterruptible) since {process.since:.3f}{where}"
        return _claim(job, _finding(job, name, process, process.claimed, "host_stuck", fault, Symptom.HANG, 0.9, text))

    def _exited(self, job: Job, process: Process, change: Change, name: JobId) -> Iterator[Finding]:
        if job.failed and 0 <= change.at - job.failed_at <= _VICTIM_S:
            return
        process.claimed = _check(change)
        if job.failed and 0 < job.failed_at - change.at <= _VICTIM_S:  # heard of later, but it was first
            for claim in list(job.claims.values()):
                if claim.symptom is Symptom.CRASH and claim.target.kind is Kind.RANK:
                    yield from _withdraw(job, change.at, check=claim.check, target=claim.target)
        if not job.failed or change.at < job.failed_at:
            job.failed_at, job.signal = change.at, change.signal
        job.failed.append(process.target.id)
        how = _how(change)
        text = f"rank {process.target.id} {how} at {change.at:.3f}, after step {job.step}"
        fault = Fault.UNKNOWN if change.signal else Fault.SOFTWARE
        yield _claim(job, _finding(job, name, process, process.claimed, "exited", fault, Symptom.CRASH, 0.95, text))

    def _gone(self, job: Job, process: Process, name: JobId) -> Iterator[Finding]:
        """Who goes with no status may have ended well: its launcher took the status, and says at the job's end."""
        process.claimed = "process.gone"
        if process.target.kind is Kind.RANK:
            yield from self._exited(job, process, Change(target=process.target, state="gone", at=process.since), name)

    def _job_failed(self, job: Job, change: Change, name: JobId) -> Finding:
        text = f"the job's command {_how(change)} at {change.at:.3f}, after step {job.step}"
        job.said += 1
        return Finding(
            at=change.at, id=f"processes/{name}/{job.attempt}/{job.said}", job=name, target=change.target,
            perception=Perception.POD_FAILED, symptom=Symptom.CRASH, fault=Fault.UNKNOWN, check="job.failed",
            judgement=Judgement.UNDECIDED, confidence=0.5, action=Action.RESTART, detail=_detail(job, change.signal),
            evidence=(Evidence("process table", 0, text),),
        )  # fmt: skip

    def _job(self, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None:
            job = self._jobs[name] = Job()
            if len(self._jobs) > MOST_JOBS:
                del self._jobs[min(self._jobs, key=lambda other: self._jobs[other].heard_at)]
        return job

    def snapshot(self) -> bytes:
        return msgspec.msgpack.encode(self._jobs)

    def restore(self, memory: bytes) -> None:
        self._jobs = msgspec.msgpack.decode(memory, type=dict[str, Job])


def _detail(job: Job, signal: int | None) -> dict[str, Json]:
    return {"step": job.step, "attempt": job.attempt, "signal": signal}


def _check(change: Change) -> str:
    """An abort is the process's own word, as an exit status is: its log explains it. Others come from outside."""
    if change.signal == signals.SIGABRT:
        return "process.abort"
    if change.signal:
        return "process.signal"
    return "process.exit_code" if change.exit_code is not None else "process.gone"


def _how(change: Change) -> str:
    if change.signal:
        name = signals.Signals(change.signal).name if change.signal in set(signals.Signals) else str(change.signal)
        return f"was killed by signal {name}"
    if change.exit_code is not None:
        return f"exited with status {change.exit_code}"
    return "is gone without an exit status"


def _finding(
    job: Job, name: JobId, process: Process, check: str, cause: str, fault: Fault, symptom: Symptom,
    confidence: float, text: str,
) -> Finding:  # fmt: skip
    job.said += 1
    target = process.target
    evidence = (Evidence("process table", 0, text),)
    culprit = Culprit(kind=target.kind, id=target.id, cause=cause, confidence=confidence, evidence=(text,))
    return Finding(
        at=process.since, id=f"processes/{name}/{job.attempt}/{job.said}", job=name, target=target,
        perception=Perception.PROCESS_ABNORMAL, symptom=symptom, fault=fault, check=check, cause=cause,
        confidence=confidence, culprits=(culprit,), evidence=evidence, action=Action.RESTART, wants=_WANTS,
        detail={"step": job.step, "attempt": job.attempt, "signature": f"{check} rank {target.id}"},
    )  # fmt: skip


def _claim(job: Job, finding: Finding) -> Finding:
    job.claims[f"{finding.check} {finding.target}"] = finding
    return finding


def _withdraw(job: Job, at: float, *, check: str = "", target: Target | None = None) -> Iterator[Finding]:
    for key, finding in list(job.claims.items()):
        if (not check or finding.check == check) and (target is None or finding.target == target):
            del job.claims[key]
            yield msgspec.structs.replace(finding, at=at, cleared=True, evidence=())


def _news(job: Job, name: JobId, at: float) -> Finding:
    job.said += 1
    return Finding(
        at=at, id=f"processes/{name}/{job.attempt}/{job.said}", job=name, target=Target(Kind.JOB, name, job=name),
        perception=Perception.PROCESS_ABNORMAL, fault=Fault.NONE, check="job.progress", judgement=Judgement.HEALTHY,
        confidence=1.0, cleared=True, detail={"step": job.step, "attempt": job.attempt, "new_ground": job.new_ground},
    )  # fmt: skip


def _finished(job: Job, name: JobId, change: Change) -> Finding:
    return msgspec.structs.replace(_news(job, name, change.at), check="job.finished")
