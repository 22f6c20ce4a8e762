"""The tables of the answer: what each worker, stage and operation costs, the most first."""

from detectors.traceslow.costs import MOST_ROWS, Costs
from detectors.traceslow.passing import Passing
from holdfast.verdict import Json


def worker_rows(costs: Costs) -> Json:
    """share: part of the lost time that comes back without the worker; slowdown: of a job with nothing wrong but it."""
    ops = costs.replay.ops
    return _rows(
        costs, "worker", {w: {"rank": int(ops.ranks[w]), "stage": int(ops.pp[w]), "dp": int(ops.dp[w])} for w in costs.workers}
    )


def stage_rows(costs: Costs) -> Json:
    """As for workers."""
    return _rows(costs, "stage", {stage: {"stage": stage} for stage in sorted(set(costs.replay.ops.pp.tolist()))})


def op_rows(costs: Costs) -> Json:
    """As for workers."""
    return _rows(costs, "op", {code: {"op": name} for code, name in enumerate(costs.replay.ops.names)})


def _rows(costs: Costs, what: str, keys: dict[int, dict[str, Json]]) -> Json:
    known = [key for key in keys if (what, key) in costs.times]
    cost = {key: (costs.share((what, key)), costs.alone(("only", what, key))) for key in known}
    first = sorted(known, key=lambda key: (-cost[key][0], -cost[key][1]))[:MOST_ROWS]
    return [{**keys[key], "share": round(cost[key][0], 4), "slowdown": round(cost[key][1], 4)} for key in first]


def unnamed(passing: Passing, launch: float) -> tuple[list[str], str]:
    """What is missing, and what was seen, when no suspect explains the lost time."""
    if launch > 1.05:
        return (
            ["operations for what ranks do in between: data-load, gc, checkpoint"],
            f"steps take {launch:.2f} times as long as their operations explain: ranks wait on something that is not in the trace",
        )
    return (
        ["more steps, and data-load, gc and checkpoint operations"],
        passing.text or "times differ from one operation to the next, on no rank, stage or link more than on others",
    )
