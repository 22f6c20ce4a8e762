"""Makes the best of a trace with a few bad rows, other units or other names: what is left out is said."""

from collections.abc import Mapping
from typing import Any

import numpy as np

# So large a part of the rows may be no numbers; more, and the file is not what it says.
_FEW = 0.01
# Columns in other units, or an end in place of a duration: -> our column and how many of them make a second.
SCALED: Mapping[str, tuple[str, float]] = {
    f"{theirs}_{unit}": (f"{ours}_s", scale)
    for theirs, ours in (("start", "start"), ("ts", "start"), ("duration", "duration"), ("dur", "duration"), ("end", "end"))
    for unit, scale in (("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))
} | {"end_ts": ("end_s", 1.0), "dur_s": ("duration_s", 1.0), "start": ("start_s", 1.0), "end": ("end_s", 1.0)}
# Others' names for the passes, where a trace has none by ours.
_PASSES = {
    "forward-compute": ("forward", "fwd", "f", "forward-pass", "fwd-compute", "forward-step"),
    "backward-compute": ("backward", "bwd", "b", "backward-pass", "bwd-compute", "backward-step"),
    "forward-send": ("send-forward", "fwd-send"), "forward-recv": ("recv-forward", "fwd-recv", "forward-receive"),
    "backward-send": ("send-backward", "bwd-send"), "backward-recv": ("recv-backward", "bwd-recv", "backward-receive"),
    "data-load": ("batch-generator", "dataload", "get-batch", "next-batch"), "checkpoint": ("save-checkpoint", "ckpt"),
    "gc": ("garbage-collection", "gc-collect"),
}  # fmt: skip
_FINITE = 1e18


def in_seconds(frame: Any) -> Any:
    """The frame with starts and durations in seconds. frame: columns by our names, or those of `SCALED`"""
    import pandas as pd

    for name, (ours, scale) in SCALED.items():
        if name in frame.columns and ours not in frame.columns:
            frame = frame.assign(**{ours: pd.to_numeric(frame[name], errors="coerce") * scale})
    if "duration_s" not in frame.columns and "end_s" in frame.columns and "start_s" in frame.columns:
        ends, starts = (pd.to_numeric(frame[name], errors="coerce") for name in ("end_s", "start_s"))
        frame = frame.assign(duration_s=ends - starts)
    return frame.drop(columns=[name for name in frame.columns if name in SCALED or name == "end_s"])


def placed(frame: Any) -> Any:
    """The frame with a place in the grid for each rank: without one told, all are data ranks of one stage."""
    if "pp" not in frame.columns:
        frame = frame.assign(pp=0)
    if "dp" not in frame.columns:
        frame = frame.assign(dp=frame["rank"])
    return frame


def sifted(frame: Any, needed: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Rows that are repeats, or without the numbers they need where these are few, left out; and what was, in words."""
    import pandas as pd

    said = []
    try:
        again = frame.duplicated().to_numpy()
    except TypeError:  # a column of lists, which the checks to come refuse
        return frame, ()
    if again.any():
        frame = frame[~again]
        said.append(f"{int(again.sum())} rows that stand in it twice")
    bad = np.zeros(len(frame), dtype=bool)
    for name in needed:
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        with np.errstate(invalid="ignore"):
            bad |= ~(np.abs(values) < _FINITE)
            if name == "duration_s":
                bad |= values < 0
    if 0 < bad.sum() <= _FEW * len(frame):
        frame = frame[~bad]
        said.append(f"{int(bad.sum())} rows without a number where one has to be")
    return frame, tuple(said)


def known_names(op: np.ndarray) -> np.ndarray:
    """The operations with `_` as `-`, and passes by our names where the trace has none by those. op: str, shape (n,)"""
    names, code = np.unique(op, return_inverse=True)
    plain = [str(name).replace("_", "-").replace(" ", "-") for name in names.tolist()]
    known = set(plain)
    ours = {other: name for name, others in _PASSES.items() if name not in known for other in others}
    return np.array([ours.get(name, name) for name in plain], dtype=object)[code]


def whole_steps(step: np.ndarray, count: int) -> np.ndarray:
    """Which steps have about as many rows as usual, bool, shape (count,): a trace may begin and end within one."""
    rows = np.bincount(step, minlength=count)
    whole = rows >= 0.7 * np.median(rows)
    return np.asarray(whole if whole.sum() >= 2 else np.ones(count, dtype=bool))
