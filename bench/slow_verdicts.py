"""How often the verdict on an operation trace is right, cause by cause, on generated jobs of which it is known what slows them.

python -m bench.slow_verdicts [trials]
python -m bench.slow_verdicts trial CAUSE SEED [hard]
"""

import sys
from dataclasses import replace

import numpy as np

from bench.traces import CAUSES, Trace, drawn
from detectors.traceslow import assemble, whatif
from detectors.traceslow.trace import OPERATIONS, Joined, Part
from holdfast.faults import Judgement
from holdfast.verdict import Verdict
from simulator.rates import interval

# A cause that costs less than this is not asked about: every job is that uneven.
_COSTS = 1.15


def played(cause: str, seed: int, *, hard: bool) -> tuple[Trace, float]:
    """A trace, and how many times as long its steps are as the same job's without the cause, of a heavy stage evenly shared."""
    trace = drawn(cause, seed, hard=hard).play()
    well = Trace(trace.shape, replace(trace.cause, name="none"), seed).play()
    shared = 1.0 + trace.cause.size / trace.shape.pp if cause == "stage_imbalance" else 1.0  # the work has to be done by somebody
    return trace, float(np.mean(trace.step_s) / np.mean(well.step_s)) / shared


def asked(trace: Trace) -> Verdict:
    """The verdict on its columns."""
    joined = Joined()
    joined.add(Part(name="trace", kind=OPERATIONS, columns=trace.columns()))
    return whatif.judge(assemble.operations(joined), "trace")


def is_right(trace: Trace, said: Verdict) -> bool:
    """The verdict word, the cause, and who is named."""
    cause, named = trace.cause, {culprit.id for culprit in said.culprits}
    if cause.name == "none":
        return said.verdict is Judgement.HEALTHY
    if said.detail["cause"] != cause.name:
        return False
    lonely = trace.shape.dp * trace.shape.tp == 1
    if cause.name == "slow_worker" or (cause.name == "data_loading" and cause.alone):
        right = [trace.rank_of(*place) for place in cause.who[: 1 if cause.name == "data_loading" else None]]
        if cause.name == "data_loading":
            right = [trace.rank_of(cause.who[0][0], 0)]
        return said.verdict is Judgement.CULPRIT and named <= set.union(*right) and all(named & one for one in right)
    if cause.name == "slow_link":
        ends = trace.rank_of(*cause.who[0]) | trace.rank_of(cause.who[0][0], cause.who[0][1] + 1)
        return said.verdict is Judgement.CULPRIT and {end for name in named for end in name.split("-")} <= ends
    expected = Judgement.UNDECIDED if cause.name == "global" else Judgement.NOBODY
    return said.verdict is expected or (lonely and said.verdict is Judgement.UNDECIDED)


def main() -> None:
    """Print the rate of each cause with its n and 95 % interval, and how to repeat each failure."""
    if len(sys.argv) > 3 and sys.argv[1] == "trial":
        trace, cost = played(sys.argv[2], int(sys.argv[3]), hard="hard" in sys.argv)
        said = asked(trace)
        print(f"{trace.shape}\n{trace.cause}\ncosts {cost:.3f}; right: {is_right(trace, said)}\n{said}")
        return
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    print("generated traces; the cause costs at least 15 % of the step")
    for hard in (False, True):
        for cause in CAUSES:
            good, n, wrong = 0, 0, []
            for seed in range(4 * trials):
                trace, cost = played(cause, seed, hard=hard)
                if n == trials or (cause != "none" and cost < _COSTS):
                    continue
                said = asked(trace)
                right, n = is_right(trace, said), n + 1
                good += right
                if not right:
                    line = f"  python -m bench.slow_verdicts trial {cause} {seed}{' hard' * hard}"
                    wrong.append(f"{line}  # {said.verdict} {said.detail['cause']}")
            print(f"{cause}{' (hard)' * hard}: {good}/{n} = {good / max(n, 1):.3f} {interval(good, n)}")
            print("\n".join(wrong), end="\n" if wrong else "")


if __name__ == "__main__":
    main()
