"""What a phase of a step is: a rank's own work, loading, a transfer, waiting for others, or a pause of the whole job."""

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from detectors.traceslow.costs import cause_of


class PhaseKind(StrEnum):
    """Whose time a phase is."""

    WORK = "work"
    DATA = "data"
    TRANSFER = "transfer"
    WAIT = "wait"
    PAUSE = "pause"


_TRANSFER = re.compile(r"send|recv|receive|p2p")
# In these a rank waits for others: who waits longest is the victim.
_WAIT = re.compile(r"wait|comm|sync|reduce|gather|idle|barrier|bubble|all_to_all|alltoall|broadcast")
_PAUSE = re.compile(r"^(eval|valid|save|log|profil)")
_DEVICE = ".device"
# No time is negative, or half an age.
_LONGEST = 1e9


def kind_of_phase(name: str) -> PhaseKind:
    """The kind of a phase by its name, without `phase.` and `_s`."""
    plain = name.lower().removesuffix(_DEVICE)
    cause = cause_of(plain)
    if cause == "data_loading":
        return PhaseKind.DATA
    if cause or _PAUSE.match(plain):
        return PhaseKind.PAUSE
    if _TRANSFER.search(plain):
        return PhaseKind.TRANSFER
    return PhaseKind.WAIT if _WAIT.search(plain) else PhaseKind.WORK


# Columns of `Parts.of`, in this order.
STEP, TOKENS, WORK, DATA, TRANSFER, WAIT, PAUSE = range(7)
WIDTH = 7
_COLUMN = {
    PhaseKind.WORK: WORK, PhaseKind.DATA: DATA, PhaseKind.TRANSFER: TRANSFER, PhaseKind.WAIT: WAIT, PhaseKind.PAUSE: PAUSE,
}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """Where the parts of a step stand among some signals. columns: for each part the places of its signals."""

    columns: tuple[tuple[int, ...], ...]

    def of(self, values: np.ndarray) -> np.ndarray:
        """The parts of each row in seconds (tokens: as told), float32, shape (WIDTH, rows); NaN for a part that no signal tells.

        values: shape (rows, signals). A rank that tells nothing of one phase of several has not entered it.
        """
        with np.errstate(over="ignore"):
            columns_of = np.ascontiguousarray(values.astype(np.float32).T)
        out = np.empty((WIDTH, len(values)), dtype=np.float32)
        for part, columns in enumerate(self.columns):
            if not columns:
                out[part] = np.nan
                continue
            out[part] = columns_of[columns[0]]
            for column in columns[1:]:
                out[part] += columns_of[column]
            if len(columns) > 1 and np.isnan(out[part]).any():
                chosen = columns_of[list(columns)]
                out[part] = np.where(np.isfinite(chosen).any(axis=0), np.nansum(chosen, axis=0), np.nan)
        with np.errstate(invalid="ignore"):
            if (out < 0.0).any() or (out >= _LONGEST).any():
                out[(out < 0.0) | (out >= _LONGEST)] = np.nan
        return out


@lru_cache(maxsize=256)
def parts_of(signals: tuple[str, ...]) -> Parts:
    """Sort the signals of step reports. Device times go before the host's of the same phase, which only measure launches."""
    found: list[list[int]] = [[] for _ in range(WIDTH)]
    for n, signal in enumerate(signals):
        if signal == "step_s":
            found[STEP].append(n)
        elif signal == "tokens":
            found[TOKENS].append(n)
        elif signal.startswith("phase.") and signal.endswith("_s"):
            name = signal[len("phase.") : -len("_s")]
            if f"phase.{name}{_DEVICE}_s" not in signals:
                found[_COLUMN[kind_of_phase(name)]].append(n)
    return Parts(tuple(map(tuple, found)))
