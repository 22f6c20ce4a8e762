"""Puts the checked columns of files together: places instead of numbers, one order, one position for each rank."""

import numpy as np

from detectors.traceslow.sift import known_names, whole_steps
from detectors.traceslow.trace import Joined, Operations, StepTable, TraceError

# steps x ranks: a job has nearly every one of them, a table that only names far apart numbers would be mostly empty
MOST_CELLS = 8_000_000
# Of each kind, what the largest jobs stay below; each is gone through one by one somewhere.
MOST = {"steps": 100_000, "ranks": 131_072, "stages": 1024, "names of operations": 256}


def operations(joined: Joined) -> Operations:
    """The trace of a job.

    raises TraceError: a rank stands in two places of the job's grid, or steps and ranks are too many
    """
    told, left_out = _whole(joined)
    steps, step = np.unique(told["step"], return_inverse=True)
    ranks, rank = np.unique(told["rank"], return_inverse=True)
    _refuse_sparse(steps, ranks)
    names, op = np.unique(known_names(told["op"].astype(str)).astype(str), return_inverse=True)
    groups, group = np.unique(told["group"].astype(str), return_inverse=True)
    _refuse_many("names of operations", names)
    dp, pp, tp = (_of_rank(name, told[name], rank, ranks) for name in ("dp", "pp", "tp"))
    _refuse_many("stages", np.unique(pp))
    order = np.lexsort((told["seq"], told["start_s"], rank, step))
    untold = groups[group] == ""
    return Operations(
        steps=steps, ranks=ranks, dp=dp, pp=pp, tp=_told_apart(dp, pp, tp), names=tuple(names.tolist()),
        groups=tuple(groups.tolist()), step=step[order], rank=rank[order], op=op[order],
        group=np.where(untold, -1, group)[order], start_s=told["start_s"][order], duration_s=told["duration_s"][order],
        microbatch=told["microbatch"][order], seq=told["seq"][order], left_out=left_out,
    )  # fmt: skip


# Column -> what stands where a file has no such column.
_COLUMNS: dict[str, object] = {
    "step": 0, "rank": 0, "dp": 0, "pp": 0, "tp": 0, "op": "", "group": "", "seq": -1, "microbatch": -1, "start_s": 0.0, "duration_s": 0.0,
}  # fmt: skip


def _whole(joined: Joined) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """The columns without steps that were cut off, and what was left out of them, in words."""
    told = {name: joined.column(name, missing) for name, missing in _COLUMNS.items()}
    left_out = tuple(text for part in joined.parts for text in part.left_out)
    steps, step = np.unique(told["step"], return_inverse=True)
    whole = whole_steps(step, len(steps))
    if whole.all():
        return told, left_out
    kept = whole[step]
    text = f"{int((~whole).sum())} steps that have far fewer rows than the others"
    return {name: column[kept] for name, column in told.items()}, (*left_out, text)


def step_table(joined: Joined) -> StepTable:
    """Step times of a job, steps down and ranks across.

    raises TraceError: steps and ranks are too many
    """
    steps, step = np.unique(joined.column("step", 0), return_inverse=True)
    ranks, rank = np.unique(joined.column("rank", 0), return_inverse=True)
    _refuse_sparse(steps, ranks)
    names = sorted({name for part in joined.parts for name in part.columns} - {"step", "rank", "step_s"})
    if len(steps) * len(ranks) * len(names) > 4 * MOST_CELLS:
        raise TraceError(f"{len(names)} phases of {len(steps)} steps of {len(ranks)} ranks are too many to compare")

    def grid(name: str) -> np.ndarray:
        table = np.full((len(steps), len(ranks)), np.nan)
        table[step, rank] = joined.column(name, np.nan)
        return table

    return StepTable(steps=steps, ranks=ranks, step_s=grid("step_s"), phases={name: grid(name) for name in names})


def _refuse_many(what: str, values: np.ndarray) -> None:
    if len(values) > MOST[what]:
        raise TraceError(f"{len(values)} {what}, at most {MOST[what]} are read")


def _refuse_sparse(steps: np.ndarray, ranks: np.ndarray) -> None:
    _refuse_many("steps", steps)
    _refuse_many("ranks", ranks)
    if len(steps) * len(ranks) > MOST_CELLS:
        raise TraceError(f"{len(steps)} steps of {len(ranks)} ranks, together at most {MOST_CELLS} are compared")


def _of_rank(name: str, told: np.ndarray, rank: np.ndarray, ranks: np.ndarray) -> np.ndarray:
    values = np.maximum(told, 0)
    first = np.zeros(len(ranks), dtype=np.int64)
    first[rank] = values
    if (other := values != first[rank]).any():
        at = int(np.argmax(other))
        raise TraceError(f"rank {ranks[rank[at]]} has {name} {values[at]} and {name} {first[rank[at]]}")
    return first


def _told_apart(dp: np.ndarray, pp: np.ndarray, tp: np.ndarray) -> np.ndarray:
    """tp, counted up among ranks that would otherwise stand at one place (a trace that does not tell a dimension)."""
    seen: dict[tuple[int, int, int], int] = {}
    out = tp.copy()
    for n, place in enumerate(zip(dp.tolist(), pp.tolist(), tp.tolist(), strict=True)):
        out[n] = tp[n] if place not in seen else int(tp.max()) + seen[place]
        seen[place] = seen.get(place, 0) + 1
    return out
