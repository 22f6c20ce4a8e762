"""What waits for what in a trace: order on a rank, meetings of ranks in a communication, as a graph cut into levels."""

from dataclasses import dataclass

import numpy as np

from detectors.traceslow.trace import Operations

# Clocks of one rank agree to about this: an operation may seem to begin so much before the one it waited for ended.
EPS_S = 1e-4
# An operation that runs beside computation in more than this part of its occurrences does not hold it up.
_BESIDE = 0.1

# Point to point operation -> its direction, and where its pair's lower stage stands seen from it.
_P2P = {
    "forward-send": ("forward", 0),
    "forward-recv": ("forward", -1),
    "backward-send": ("backward", -1),
    "backward-recv": ("backward", 0),
    "forward-send-backward-recv": ("both", 0),
    "backward-send-forward-recv": ("both", -1),
}
_COLLECTIVE = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "broadcast", "barrier", "allreduce", "allgather", "clip")
COMPUTE = ("forward-compute", "backward-compute")


def is_communication(name: str) -> bool:
    """Whether ranks meet in an operation of this name."""
    return name in _P2P or any(word in name for word in _COLLECTIVE)


def is_p2p(name: str) -> bool:
    """Whether it is a send or a receive."""
    return name in _P2P


@dataclass(frozen=True, kw_only=True)
class Meetings:
    """Who meets whom. All int64, shape (n,), -1 for an operation that meets nobody.

    meeting: number of the meeting; channel: number of the set of ranks that meets, the same in every step
    """

    meeting: np.ndarray
    channel: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Levels:
    """A graph in an order in which every node stands behind those it waits for.

    node: place -> node; bounds: first place of each level; edges: places waited for, grouped by who waits;
    offsets: for each place its first edge; loose: meetings that could not be kept (they would wait for one another)
    """

    place: np.ndarray
    bounds: np.ndarray
    edges: np.ndarray
    offsets: np.ndarray
    loose: int


def number(*columns: np.ndarray) -> np.ndarray:
    """One dense number from 0 for each different row of some columns of integers (-1 or more)."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        shifted = column - (column.min() if len(column) else 0)
        code = code * (int(shifted.max()) + 1 if len(column) else 1) + shifted
        code = np.unique(code, return_inverse=True)[1]
    return code


def ordinal(*columns: np.ndarray) -> np.ndarray:
    """For each row, how many rows before it are equal in these columns."""
    code = number(*columns)
    order = np.argsort(code, kind="stable")
    first = np.searchsorted(code[order], code[order], side="left")
    out = np.empty(len(code), dtype=np.int64)
    out[order] = np.arange(len(code)) - first
    return out


def meetings(ops: Operations) -> Meetings:
    """Pair sends with receives by stage, direction and turn; collectives by their group and turn.

    A group that the trace names is believed; else the operation's name tells which ranks take part.
    """
    turn = ordinal(ops.step, ops.rank, ops.op)
    dp, pp, tp = ops.dp[ops.rank], ops.pp[ops.rank], ops.tp[ops.rank]
    last = int(ops.pp.max())
    scope = np.full((len(ops.op), 5), -1)  # family, and coordinates that the members share
    for code, name in enumerate(ops.names):
        rows = np.flatnonzero(ops.op == code)
        if name in _P2P:
            way, lower = _P2P[name]
            family = -2 - ("forward", "backward", "both").index(way)
            scope[rows] = np.stack(
                [np.full(len(rows), family), (pp[rows] + lower) % (last + 1), dp[rows], tp[rows], np.zeros_like(rows)], axis=1
            )
        elif is_communication(name):
            shared = _shared(name, ops, rows)
            part = [np.where(keep, at[rows], 0) for keep, at in zip(shared, (pp, dp, tp), strict=True)]
            scope[rows] = np.stack([np.full(len(rows), code), *part, _own_group(ops, rows)], axis=1)
    meets = np.isin(ops.op, [n for n, name in enumerate(ops.names) if is_communication(name)])
    meeting, channel = np.full(len(ops.op), -1), np.full(len(ops.op), -1)
    key = scope[meets].T
    meeting[meets] = number(ops.step[meets], turn[meets], *key)
    # one link carries both directions
    channel[meets] = number(np.where(key[0] < -1, -2, key[0]), *key[1:])
    return Meetings(meeting=meeting, channel=channel)


def _shared(name: str, ops: Operations, rows: np.ndarray) -> tuple[bool, bool, bool]:
    """Which of (pp, dp, tp) the members of a collective have in common, by its name or by a group called after a dimension."""
    told = {ops.groups[g] for g in np.unique(ops.group[rows]) if g >= 0}
    if told and told <= {"tp", "tensor"}:
        return True, True, False
    if told and told <= {"pp", "pipeline"}:
        return False, True, True
    if told and not told <= {"dp", "data"}:
        return False, False, False  # the group itself tells
    if "embedding" in name:
        return False, True, True
    if "layernorm" in name or name.startswith(("tp-", "tensor-")):
        return True, True, False
    if "clip" in name or "barrier" in name or "world" in name:
        return False, False, False
    return True, False, True


def _own_group(ops: Operations, rows: np.ndarray) -> np.ndarray:
    dimensions = [n for n, name in enumerate(ops.groups) if name in ("tp", "tensor", "pp", "pipeline", "dp", "data")]
    return np.where(np.isin(ops.group[rows], dimensions), -1, ops.group[rows])


def level(ops: Operations, met: Meetings) -> Levels:
    """The graph of the whole trace, every step for itself.

    Nodes: operations [0, n), meetings, and gates: a gate opens when all that a rank had to finish before is finished.
    Meetings that wait for one another in a circle, which a true trace has not, are let go.
    """
    n = len(ops.op)
    meeting, loose, beside = met.meeting.copy(), 0, True
    while True:
        edges, nodes = _edges(ops, meeting, beside=beside)
        depth, stuck = _depths(edges, nodes)
        if not stuck.any():
            break
        caught = stuck[:n] & (meeting >= 0)
        beside = beside and bool(caught.any())
        loose += len(np.unique(meeting[caught]))
        meeting[caught] = -1
    return _ordered(edges, depth, loose)


def _edges(ops: Operations, meeting: np.ndarray, *, beside: bool) -> tuple[np.ndarray, int]:
    """Edges (from, to), shape (2, e), and the number of nodes."""
    n = len(ops.op)
    meets = int(meeting.max(initial=-1)) + 1
    line = number(ops.step, ops.rank)
    aside = _runs_beside(ops, line)
    chain = np.flatnonzero(~aside)
    batch = _batches(ops, line, chain, meeting)
    first_gate = n + meets
    lines = int(line.max()) + 1
    # gate of batch b: it opens for b when the batch before on its line is done; each line ends with one more gate
    of_line = np.zeros(lines, dtype=np.int64)
    np.maximum.at(of_line, line[chain], batch + 1)
    sizes = np.diff(np.concatenate([[0], np.maximum.accumulate(of_line)]))
    base = np.concatenate([[0], np.cumsum(sizes + 1)])[:-1] - np.concatenate([[0], np.cumsum(sizes)])[:-1]
    gate = np.zeros(n, dtype=np.int64)
    gate[chain] = batch + base[line[chain]]
    found = [np.stack([first_gate + gate[chain], first_gate + gate[chain] + 1])]
    found.append(np.stack([chain, first_gate + gate[chain] + 1]))
    side = np.flatnonzero(aside)
    if len(side):
        found.append(_beside_edges(ops, line, chain, side, gate, first_gate, base=base, sizes=sizes, waited=beside))
    alone, meet = np.flatnonzero(meeting < 0), np.flatnonzero(meeting >= 0)
    found.append(np.stack([first_gate + gate[alone], alone]))
    found.append(np.stack([first_gate + gate[meet], n + meeting[meet]]))
    found.append(np.stack([n + meeting[meet], meet]))
    return np.unique(np.concatenate(found, axis=1), axis=1) if False else np.concatenate(found, axis=1), first_gate + int((sizes + 1).sum())
