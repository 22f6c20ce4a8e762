"""Simple policies instead of our detectors, under the same remedier: a time-out of steps, silence of logs, exit codes. All is simulated.

python -m bench.baselines --seeds 0-4 [--processes 2] [--policies holdfast,timeout,silence,exits] [--results build/faults]
Every kind of story strikes alone, in a small cluster of its own, so that thirty minutes of waiting are in nobody's way; ours is run on
the same. The rows stand in the table of `bench.faults`.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from bench.faultcases import OURS, Run, run
from bench.faults import Piece, arguments, do, seeds, write
from detectors.processes import Processes
from holdfast.events import Change, Changes, Finding, Lines, Observation, Steps
from holdfast.faults import Action, Fault, Judgement, Perception, Severity, Symptom
from holdfast.ports import Detector
from holdfast.simulation import Speed
from holdfast.topology import JobId, Kind, job_of
from remedier.incidents import FINISHED, PROGRESS
from simulator.scenario import Scenario, read
from simulator.stories.kinds import kinds

SCENARIO = "alone"
WAIT_S = 1800.0
# An incident of a policy that waits half an hour still is the story's that long after it began.
REACH_S = 2.0 * WAIT_S


# A job in one of these states is not expected to say anything.
_SILENT = frozenset({"finished", "stopped", "suspended"})


class News:
    """Tells the remedier that a job steps again, as every policy needs; what else `Processes` sees is not said."""

    consumes: tuple[type[Observation], ...] = Processes.consumes

    def __init__(self) -> None:
        self._processes = Processes()

    def observe(self, seen: Observation) -> Iterator[Finding]:
        return (finding for finding in self._processes.observe(seen) if finding.check in (PROGRESS, FINISHED))

    def tick(self, now: float) -> Iterator[Finding]:
        return (finding for finding in self._processes.tick(now) if finding.check in (PROGRESS, FINISHED))


@dataclass
class Waits:
    """Claims that a job is dead when nothing of it was heard for so long; it cannot say what is wrong, only that it is to be restarted.

    hears: the observations that are a sign of life; wait_s: the widely used default of half an hour (torch's and NCCL's own watchdogs
    wait 10 or 30 minutes)
    """

    name: str
    hears: type[Observation]
    wait_s: float = WAIT_S
    consumes: tuple[type[Observation], ...] = field(init=False)
    _heard: dict[str, float] = field(default_factory=dict, init=False)
    _claimed: dict[str, Finding] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.consumes = (self.hears, Changes)

    def observe(self, seen: Observation) -> Iterator[Finding]:
        if not seen.job:
            return
        if isinstance(seen, Changes):
            started = [change for change in seen.changes if change.target.kind is Kind.JOB and change.state in ("started", "restarting")]
            over = any(change.target.kind is Kind.JOB and change.state in _SILENT for change in seen.changes)
            if over:
                self._heard.pop(seen.job, None)
            if not started:
                return
        self._heard[seen.job] = seen.at
        if (claim := self._claimed.pop(seen.job, None)) is not None:
            yield msgspec.structs.replace(claim, id=f"{claim.id}/cleared", at=seen.at, cleared=True)

    def tick(self, now: float) -> Iterator[Finding]:
        for job, at in self._heard.items():
            if now - at >= self.wait_s and job not in self._claimed:
                claim = _claim(job, now, self.name, Perception.HANG, Symptom.HANG)
                self._claimed[job] = claim
                yield claim


@dataclass
class Exits:
    """Claims that a job has crashed when it says so by its exit code, and nothing else."""

    consumes: tuple[type[Observation], ...] = (Changes,)

    def observe(self, seen: Observation) -> Iterator[Finding]:
        for change in seen.changes if isinstance(seen, Changes) and seen.job else ():
            if change.target.kind is Kind.JOB and change.state == "failed":
                yield _claim(seen.job, seen.at, _exit(change), Perception.POD_FAILED, Symptom.CRASH)

    def tick(self, now: float) -> Iterator[Finding]:
        yield from ()


def _exit(change: Change) -> str:
    return f"exits.{change.exit_code}.{change.attempt}"


def _claim(job: str, at: float, check: str, perception: Perception, symptom: Symptom) -> Finding:
    return Finding(
        at=at, id=f"{check}/{job}/{at:.0f}", job=JobId(job), target=job_of(job), perception=perception, symptom=symptom,
        fault=Fault.UNKNOWN, check=check, judgement=Judgement.UNDECIDED, severity=Severity.ERROR, confidence=0.5, action=Action.RESTART,
    )  # fmt: skip


# None: all that is installed.
POLICIES: Mapping[str, Callable[[], Mapping[str, Detector] | None]] = {
    OURS: lambda: None,
    "timeout": lambda: {"news": News(), "timeout": Waits("timeout", Steps)},
    "silence": lambda: {"news": News(), "silence": Waits("silence", Lines)},
    "exits": lambda: {"news": News(), "exits": Exits()},
}


def alone(scenario: Scenario, seed: int, kind: str) -> Scenario:
    """The scenario with one fault."""
    return msgspec.structs.replace(scenario, seed=seed, plan="each_kind", kinds=(kind,))


def run_alone(scenario: Scenario, *, name: str, policy: str, seed: int, speed: Speed = Speed.FULL) -> Run:
    """Every kind of story alone under a policy, put together as one run."""
    chosen = scenario.kinds or tuple(sorted(kinds()))
    made = [
        run(alone(scenario, seed, kind), name=name, speed=speed, policy=policy, detectors=POLICIES[policy](), reach_s=REACH_S)
        for kind in chosen
    ]
    hours, past_s = sum(one.node_hours for one in made), sum(one.simulated_s for one in made)
    return Run(
        scenario=name, policy=policy, seed=seed, speed=speed.value, node_hours=round(hours, 1), simulated_s=past_s,
        cpu_s=round(sum(one.cpu_s for one in made), 1), ettr=round(sum(one.ettr * one.simulated_s for one in made) / max(past_s, 1.0), 4),
        accused=sum(one.accused for one in made), accused_wrongly=sum(one.accused_wrongly for one in made),
        cases=tuple(case for one in made for case in one.cases), false=tuple(alarm for one in made for alarm in one.false),
        journal_sha256=made[0].journal_sha256,
    )  # fmt: skip


def main() -> None:
    parser = arguments(SCENARIO, speed=Speed.FAST)
    parser.add_argument("--policies", default=",".join(POLICIES))
    told = parser.parse_args()
    if told.one >= 0:
        done = run_alone(read(told.scenario), name=told.scenario, policy=told.policy or OURS, seed=told.one, speed=Speed(told.speed))
        sys.stdout.buffer.write(msgspec.json.encode(done))
        return
    pieces = [
        Piece(scenario=told.scenario, seed=seed, speed=told.speed, policy=policy)
        for seed in seeds(told.seeds) for policy in told.policies.split(",")
    ]  # fmt: skip
    do(pieces, told.results, module="bench.baselines", processes=told.processes)
    print(write(told.results))


if __name__ == "__main__":
    main()
