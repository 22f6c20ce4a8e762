"""How surely and how soon the online detector names who slows a job, how seldom it is wrong, and what a step costs.

python -m bench.slow_online [trials]
python -m bench.slow_online trial WHAT RANKS SEED
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench.stepstreams import Stream, by_node
from detectors.traceslow.online import Traceslow
from holdfast.events import Change, Changes, Finding, Steps
from holdfast.faults import Judgement
from holdfast.topology import JobId, job_of
from simulator.rates import interval, per_thousand

STEPS_S, STEPS = 30.0, 5
_SEQUENCES = 0.25


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one trial. after_s, after_steps: from the first slow step's begin to the first right claim, None: never

    wrong: claims that name somebody else; whole_s: how long the job was watched
    """

    stream: Stream
    right: str = ""
    after_s: float | None = None
    after_steps: int | None = None
    wrong: tuple[str, ...] = ()
    whole_s: float = 0.0

    @property
    def in_time(self) -> bool:
        return self.after_steps is not None and self.after_s is not None and (self.after_s <= STEPS_S or self.after_steps <= STEPS)


def straggler(ranks: int, seed: int) -> tuple[Stream, int]:
    """A rank, link, node, host or loader 5-50 % slow."""
    stream = Stream.drawn(ranks, seed).with_fault()
    return stream, _since(stream) + 20


def weak(ranks: int, seed: int) -> tuple[Stream, int]:
    """A device 3 % slower than it was, for good."""
    stream = Stream.drawn(ranks, seed).with_fault(kind="compute", least=0.03, most=0.030001, after=(30, 60))
    return replace(stream, noise=min(stream.noise, 0.006), variety=min(stream.variety, 0.004)), _since(stream) + 60


def uneven(ranks: int, seed: int) -> tuple[Stream, int]:
    """A straggler in a job of variable sequence lengths, tokens told."""
    stream = replace(Stream.drawn(ranks, seed), sequences=_SEQUENCES).with_fault(least=0.1)
    return stream, _since(stream) + 150


def untold(ranks: int, seed: int) -> tuple[Stream, int]:
    """The same, and nobody tells the tokens."""
    stream = replace(Stream.drawn(ranks, seed), sequences=_SEQUENCES, tells_tokens=False).with_fault(least=0.1)
    return stream, _since(stream) + 300


def healthy(ranks: int, seed: int) -> tuple[Stream, int]:
    """Nobody is slow; sequences are of variable length, told or not."""
    stream = replace(Stream.drawn(ranks, seed), sequences=_SEQUENCES * (seed % 3) / 2.0, tells_tokens=seed % 2 == 0)
    return stream, 2000


WHAT: dict[str, Callable[[int, int], tuple[Stream, int]]] = {
    "straggler": straggler, "weak": weak, "uneven": uneven, "untold": untold, "healthy": healthy,
}  # fmt: skip


def _since(stream: Stream) -> int:
    return stream.fault.since if stream.fault is not None else 0


def trial(what: str, ranks: int, seed: int) -> Outcome:
    """One job from its first step on. Every tenth is told node by node in any order."""
    stream, steps = WHAT[what](ranks, seed)
    detector = Traceslow()
    change = Change(target=job_of("j"), state="started", at=1000.0, detail=stream.told())  # type: ignore[arg-type]
    list(detector.observe(Changes(at=1000.0, source="agent:n0", job=JobId("j"), changes=(change,))))
    scatter = np.random.Generator(np.random.Philox(seed)) if seed % 10 == 9 else None
    outcome, begun_at, ended_at = Outcome(stream=stream), 1000.0, 1000.0
    for n, seen in enumerate(stream.steps(steps)):
        if n == max(1, _since(stream)):
            begun_at = ended_at
        ended_at = seen.at
        for finding in _said(detector, seen, scatter):
            outcome = _judged(outcome, finding, n - max(1, _since(stream)) + 1, finding.at - begun_at)
        if outcome.after_steps is not None and what != "healthy":
            break
    return replace(outcome, whole_s=ended_at - 1000.0)


def _said(detector: Traceslow, seen: Steps, scatter: np.random.Generator | None) -> list[Finding]:
    batches = [seen] if scatter is None else by_node(seen, scatter)
    found = [finding for batch in batches for finding in detector.observe(batch)]
    return [*found, *detector.tick(batches[-1].at)]


def _judged(outcome: Outcome, finding: Finding, step: int, seconds: float) -> Outcome:
    if finding.cleared:
        return outcome
    text = f"{finding.check} {finding.target} at {seconds:.0f} s"
    fault = outcome.stream.fault
    if fault is None or finding.judgement is not Judgement.CULPRIT or step < 1:
        return replace(outcome, wrong=(*outcome.wrong, text))
    ranks = set(fault.ranks(outcome.stream.ranks))
    if set(finding.detail["ranks"]) != ranks:  # type: ignore[arg-type]
        return replace(outcome, wrong=(*outcome.wrong, text))
    return replace(outcome, right=text, after_s=seconds, after_steps=step)


def named(what: str, ranks: int, trials: int, *, in_time: bool) -> None:
    """Print the rate, its n and 95 % interval, and how to repeat each failure."""
    found = [(seed, trial(what, ranks, seed)) for seed in range(trials)]
    good = [one.in_time if in_time else one.after_steps is not None for _, one in found]
    after = sorted(one.after_steps for _, one in found if one.after_steps is not None)
    wrong = sum(bool(one.wrong) for _, one in found)
    middle = f"median {after[len(after) // 2]} steps, 90 % within {after[len(after) * 9 // 10]}" if after else "never"
    print(
        f"{what}, {ranks} ranks: {sum(good)}/{trials} {'in time' if in_time else 'found'} = {sum(good) / trials:.3f} "
        f"{interval(sum(good), trials)}; {middle}; wrong names in {wrong}"
    )
    for (seed, one), right in zip(found, good, strict=True):
        if not right or one.wrong:
            print(f"  python -m bench.slow_online trial {what} {ranks} {seed}  # {one.stream.fault} {one.right} {one.wrong}")


def alarms(trials: int) -> None:
    """Print claims in jobs in which nobody is slow."""
    hours, false = 0.0, 0
    for seed in range(trials):
        ranks = (8, 64, 256, 1024)[seed % 4]
        one = trial("healthy", ranks, seed)
        hours += one.whole_s / 3600.0
        false += len(one.wrong)
        if one.wrong:
            print(f"  python -m bench.slow_online trial healthy {ranks} {seed}  # {one.wrong}")
    print(f"healthy jobs: {false} claims in {hours:.0f} job-hours; per 1,000 and 95 % interval: {per_thousand(false, hours)}")


def cost(ranks: int = 16_384, steps: int = 60) -> None:
    """Print CPU time of a step in one batch of the whole job, and in batches of its nodes."""
    stream = Stream(ranks=ranks, seed=1)
    seen = list(stream.steps(steps))
    detector, scatter = Traceslow(), np.random.Generator(np.random.Philox(1))
    whole_ms = sorted(_cpu_ms(detector, [one]) for one in seen)
    detector = Traceslow()
    nodes_ms = sorted(_cpu_ms(detector, by_node(one, scatter)) for one in seen[:20])
    print(
        f"a step of {ranks} ranks, CPU: median {whole_ms[steps // 2]:.2f} ms, least {whole_ms[0]:.2f}, mean {sum(whole_ms) / steps:.2f} "
        f"in one batch; median {nodes_ms[10]:.1f} ms in {ranks // 8} batches of nodes"
    )


def _cpu_ms(detector: Traceslow, batches: list[Steps]) -> float:
    begun = time.process_time()
    for one in batches:
        list(detector.observe(one))
    return (time.process_time() - begun) * 1e3


def main() -> None:
    """Print all figures, or one trial."""
    if len(sys.argv) > 2 and sys.argv[1] == "trial":
        print(trial(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
        return
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print("simulated; severities 5-50 % (logarithmic), weak 3 %, uneven and untold 10-50 %; see `bench.stepstreams.Stream.drawn`")
    cost()
    named("straggler", 2048, trials, in_time=True)
    named("straggler", 8192, trials, in_time=True)
    named("weak", 2048, trials, in_time=False)
    named("uneven", 2048, trials, in_time=False)
    named("untold", 2048, trials, in_time=False)
    alarms(trials)


if __name__ == "__main__":
    main()
