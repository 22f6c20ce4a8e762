"""What a recorder's records do not say of themselves: the ends of operations that were launched together or overtaken."""

import numpy as np

_NUMBER_MOST = 2**31 - 1


def close_batches(
    table: np.ndarray, done: np.ndarray, closes: np.ndarray, group: np.ndarray, collective: np.ndarray, transfer: np.ndarray
) -> np.ndarray:
    """Give the parts of coalesced launches the state of the record that closes them: they have none of their own.

    A part and its close carry the same two numbers. Returns which rows are operations: a close is one only where no part of it
    is in the ring and it is a collective.
    """
    closed = {(group[n], collective[n], transfer[n]): n for n in np.flatnonzero(closes).tolist()}
    open_parts = np.flatnonzero(~done & ~closes)
    with_parts = set()
    for n in open_parts.tolist():
        close = closed.get((group[n], collective[n], transfer[n]), -1)
        if close > n:
            with_parts.add(close)
            done[n] = done[close]
            table["batch"][n] = min(int(table["order"][close]), _NUMBER_MOST)
    alone = [n not in with_parts and not _has_part(n, group, collective, transfer) for n in np.flatnonzero(closes).tolist()]
    keep = ~closes
    keep[np.flatnonzero(closes)[np.array(alone, dtype=bool)]] = True
    return keep


def end_bare(table: np.ndarray, done: np.ndarray, closes: np.ndarray) -> None:
    """End the parts of coalesced launches whose close was left out as completed, in a dump of what is active only.

    The parts themselves are always in it, having no state. The record after the last part of a launch is its close: where it is
    missing though later ones are there, it was completed.
    """
    open_parts = np.flatnonzero((table["peer"] >= 0) & ~done & (table["batch"] < 0))
    if not len(open_parts):
        return
    order, group, seq = table["order"], table["group"], table["seq"]
    together = (group[open_parts[1:]] == group[open_parts[:-1]]) & (seq[open_parts[1:]] == seq[open_parts[:-1]])
    joint = set(group[open_parts[1:]][together].tolist()) | set(group[closes].tolist())
    present, newest = set(order.tolist()), int(order.max())
    last = np.append(~together, True)
    ended = False
    for n, ends in zip(open_parts[::-1].tolist(), last[::-1].tolist(), strict=True):
        if ends:
            ended = int(order[n]) < newest and int(order[n]) + 1 not in present
        done[n] = ended and int(group[n]) in joint


def _has_part(close: int, *numbers: np.ndarray) -> bool:
    """Whether the record before a close is a part of it."""
    return close > 0 and all(column[close] == column[close - 1] for column in numbers)


def follow_stream(table: np.ndarray, gloo: np.ndarray) -> None:
    """What a later collective of the same group has overtaken is done: NCCL runs a communicator's collectives in order."""
    ordered = (table["peer"] < 0) & ~gloo
    finished = ordered & table["done"]
    top = np.full(int(table["group"].max()) + 1, -1, dtype=np.int64)
    np.maximum.at(top, table["group"][finished], table["seq"][finished])
    table["done"] |= ordered & (table["seq"] <= top[table["group"]])
