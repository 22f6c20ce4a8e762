"""What a claim of a comparison says: for each signal the value, the peers' median, how far off, how many peers, and since when."""

from collections.abc import Sequence
from datetime import UTC, datetime

from detectors.models.scored import Standing
from detectors.models.signals import Signals
from holdfast.events import Finding
from holdfast.faults import Action, Fault, Judgement, Perception, Severity
from holdfast.topology import JobId, Target
from holdfast.verdict import Evidence, Json

CAUSE = "peer_deviation"  # remedier/correlate.py knows it: a hint, which never takes a verdict over
JOINT = "joint"
_MOST_SIGNALS = 12
# The end of a signal's name -> (factor, format): numbers as people write them.
_UNITS: tuple[tuple[str, float, str], ...] = (
    ("_s_total", 100.0, "{:.3g} % of the time"), ("_bytes_total", 1e-9, "{:.3g} GB/s"), ("_total", 1.0, "{:.3g}/s"),
    ("_bps", 1e-9, "{:g} Gb/s"), ("_bytes", 1e-9, "{:.1f} GB"), ("_hz", 1e-6, "{:.0f} MHz"), ("_ratio", 100.0, "{:.1f} %"),
    ("_c", 1.0, "{:.0f} C"), ("_w", 1.0, "{:.0f} W"), ("_gts", 1.0, "{:g} GT/s"), ("_s", 1.0, "{:.3g} s"),
)  # fmt: skip


def number(signal: str, value: float) -> str:
    """A reading with its unit; of a counter its growth per second."""
    factor, form = next(((factor, form) for end, factor, form in _UNITS if signal.endswith(end)), (1.0, "{:.4g}"))
    return form.format(factor * value)


def moment(at: float) -> str:
    """Unix seconds as a person reads them, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def sentence(one: Standing, now: float) -> str:
    """What is odd about one signal."""
    out = one.out
    return (
        f"{out.signal} {number(out.signal, out.value)}; {out.compared} have {number(out.signal, out.middle)} "
        f"(median of {out.peers} peers), robust z {out.z:+.1f}, since {moment(one.since)} ({now - one.since:.0f} s)"
    )


def detail_of(found: Sequence[Standing]) -> list[Json]:
    """The same as data."""
    return [
        {
            "signal": one.out.signal, "value": one.out.value, "peers_median": one.out.middle, "z": round(one.out.z, 2),
            "peers": one.out.peers, "since": one.since,
        }
        for one in found
    ]  # fmt: skip


def finding(
    target: Target, found: Sequence[Standing], signals: Signals, *, check: str, id: str, now: float, source: str, confidence: float
) -> Finding:
    """A warning about a target, the signal that says most first; it accuses nobody and asks for nothing but a look."""
    ranked = sorted(found, key=lambda one: (_turn(one, signals), -abs(one.out.z), one.out.signal))[:_MOST_SIGNALS]
    first = signals.of(ranked[0].out.signal)
    # what the first is a sign of; a joint deviation has no first
    fault = first.fault if first is not None and check != f"peers.{JOINT}" else Fault.UNKNOWN
    return Finding(
        at=now, id=id, job=JobId(ranked[0].out.job), target=target, perception=Perception.NODE_FAULT, fault=fault, check=check,
        judgement=Judgement.UNDECIDED, severity=Severity.WARNING, cause=CAUSE, confidence=confidence, action=Action.WATCH,
        evidence=tuple(Evidence(source, 0, sentence(one, now)) for one in ranked), detail={"signals": detail_of(ranked)},
    )  # fmt: skip


def _turn(one: Standing, signals: Signals) -> int:
    row = signals.of(one.out.signal)
    return row.turn if row is not None else 1 << 20
