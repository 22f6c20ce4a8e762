"""The table of `bench.faults`: rates with their n and 95 % interval, by class, by group of classes and by kind of story."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import msgspec

from bench.faultcases import OURS, Case, FalseAlarm, Run
from holdfast.faults import Fault
from simulator.rates import interval, per_thousand, quantile

# Classes that are mended by the same people; `none` are the stories of what is no fault.
GROUPS: Mapping[str, tuple[Fault, ...]] = {
    "device": (Fault.GPU_HW, Fault.GPU_MEM, Fault.GPU_THERMAL_POWER, Fault.NVLINK, Fault.PCIE),
    "network": (Fault.NIC, Fault.FABRIC),
    "host": (Fault.HOST, Fault.HOST_RESOURCE, Fault.STORAGE),
    "job": (Fault.SOFTWARE, Fault.USER_CODE, Fault.SDC, Fault.WORKLOAD, Fault.UNKNOWN),
    "platform": (Fault.PLATFORM, Fault.SCHEDULER),
    "serving": (Fault.SERVING,),
}
# What is told in words or numbers of its own is to be detected within so many seconds, in 99 of 100 cases.
LIMITS: Mapping[str, tuple[float, tuple[Fault, ...]]] = {
    "host, device": (10.0, (*GROUPS["device"], *GROUPS["host"])),
    "NIC": (30.0, (Fault.NIC,)),
    "switch": (60.0, (Fault.FABRIC,)),
}
MACHINE_S = 60.0


class Share(msgspec.Struct, frozen=True):
    """hits of n; low, high: its interval at 95 %, None of nothing."""

    hits: int
    n: int
    rate: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.rate is None or self.interval is None:
            return "-"
        return f"{self.rate:.3f} ({self.interval[0]:.3f}-{self.interval[1]:.3f}; {self.hits}/{self.n})"


class Times(msgspec.Struct, frozen=True):
    """Seconds, of so many."""

    n: int
    p50: float | None
    p90: float | None
    p99: float | None

    def __str__(self) -> str:
        return f"{self.p50:.0f} / {self.p90:.0f} / {self.p99:.0f}" if self.n else "-"


class Alarms(msgspec.Struct, frozen=True):
    """False alarms per 1,000 observed node-hours."""

    count: int
    node_hours: float
    per_1000: float | None
    interval: tuple[float, float] | None

    def __str__(self) -> str:
        if self.per_1000 is None or self.interval is None:
            return "-"
        return f"{self.per_1000:.2f} ({self.interval[0]:.2f}-{self.interval[1]:.2f}; {self.count})"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A class, a group or all faults.

    recall: called by its name, of those injected; precision: of what was called so, false alarms included, what it was
    noticed: of those injected, something was said, whatever it was called; located: named with its place
    right_verb: what was done was right, whatever it was called
    """

    n: int
    recall: Share
    precision: Share
    noticed: Share
    located: Share
    right_verb: Share
    recovered: Share
    notice_s: Times
    detect_s: Times
    recover_s: Times
    false_alarms: Alarms


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """Faults that blame a machine: the right one accused, within `MACHINE_S` seconds; and who was accused wrongly."""

    recall: Share
    precision: Share
    f1: float | None


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """All runs of one scenario under one policy. ettr: mean, least; no_faults: stories of what is no fault that were left alone"""

    policy: str
    scenario: str
    speed: str
    seeds: tuple[int, ...]
    node_hours: float
    cpu_s: float
    ettr: tuple[float, float]
    every: Row
    groups: dict[str, Row]
    classes: dict[str, Row]
    kinds: dict[str, Row]
    explicit: dict[str, tuple[Times, Share]]
    machines: Machines
    no_faults: Share
    false_checks: dict[str, int]


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """failed: commands that show what went wrong, and what it said."""

    simulated: bool = True
    policies: tuple[Policy, ...]
    failed: tuple[tuple[str, str], ...]


def table(runs: Sequence[Run]) -> Table:
    """All runs -> the table."""
    def key(run: Run) -> tuple[bool, str, str, str]:
        return run.policy != OURS, run.scenario, run.policy, run.speed

    whole = sorted((run for run in runs if not run.failed), key=key)
    failed = tuple((reproduction(run), run.failed) for run in runs if run.failed)
    return Table(policies=tuple(_policy(list(own)) for _, own in groupby(whole, key)), failed=failed)


def reproduction(run: Run) -> str:
    """The one line that does a run again."""
    if run.policy == OURS and run.scenario != "alone":
        return f"holdfast simulate {run.scenario} --seed {run.seed} --speed {run.speed}"
    return f"python -m bench.baselines --one {run.seed} --policy {run.policy}"


def share(hits: int, n: int) -> Share:
    """hits of n."""
    return Share(hits, n, round(hits / n, 4) if n else None, interval(hits, n))


def _times(values: Iterable[float | None]) -> Times:
    known = [value for value in values if value is not None]
    return Times(len(known), quantile(known, 0.5), quantile(known, 0.9), quantile(known, 0.99))


def _row(own: Sequence[Case], called: int, false: int, node_hours: float) -> Row:
    """own: the cases; called: how many cases and alarms were called so, rightly or not; false: alarms among them."""
    n, detected = len(own), [case for case in own if case.detected]
    alarms = per_thousand(false, node_hours)
    return Row(
        n=n, recall=share(len(detected), n), precision=share(min(len(detected), called), called),
        noticed=share(sum(bool(case.said) for case in own), n), located=share(sum(case.located for case in own), n),
        right_verb=share(sum(case.right for case in own), n), recovered=share(sum(case.recover_s is not None for case in own), n),
        notice_s=_times(case.detect_s for case in own), detect_s=_times(case.detect_s for case in detected),
        recover_s=_times(case.recover_s for case in own), false_alarms=Alarms(false, round(node_hours, 1), *(alarms or (None, None))),
    )  # fmt: skip


def _of(cases: Sequence[Case], false: Sequence[FalseAlarm], node_hours: float, faults: Sequence[Fault]) -> Row:
    """The row of some classes."""
    alarms = sum(one.fault in faults for one in false)
    called = sum(case.said in faults for case in cases) + alarms
    own = [case for case in cases if case.truth in faults]
    right = sum(case.said in faults for case in own)
    row = _row(own, called, alarms, node_hours)
    # within a group one class may be called by the name of another: that is no false one of the group
    return msgspec.structs.replace(row, precision=share(right, called))


def _policy(runs: Sequence[Run]) -> Policy:
    everything = [case for run in runs for case in run.cases]
    cases = [case for case in everything if case.truth != Fault.NONE]
    left = [case for case in everything if case.truth == Fault.NONE]
    false = [alarm for run in runs for alarm in run.false]
    hours = sum(run.node_hours for run in runs)
    present = [fault for fault in Fault if any(case.truth == fault for case in cases) or any(one.fault == fault for one in false)]
    detected = sum(case.detected for case in cases)
    checks: dict[str, int] = defaultdict(int)
    for alarm in false:
        checks[alarm.check] += 1
    return Policy(
        policy=runs[0].policy, scenario=runs[0].scenario, speed=runs[0].speed, seeds=tuple(run.seed for run in runs),
        node_hours=round(hours, 1), cpu_s=round(sum(run.cpu_s for run in runs), 1),
        ettr=(round(sum(run.ettr for run in runs) / len(runs), 4), min(run.ettr for run in runs)),
        every=_row(cases, detected + len(false), len(false), hours),
        groups={name: _of(cases, false, hours, faults) for name, faults in GROUPS.items()},
        classes={fault.value: _of(cases, false, hours, (fault,)) for fault in present},
        kinds={kind: _of_kind([case for case in everything if case.kind == kind]) for kind in sorted({case.kind for case in everything})},
        explicit={name: _explicit(cases, limit_s, faults) for name, (limit_s, faults) in LIMITS.items()},
        machines=_machines(cases, runs), no_faults=share(sum(not case.said for case in left), len(left)),
        false_checks=dict(sorted(checks.items(), key=lambda pair: -pair[1])),
    )  # fmt: skip


def _of_kind(own: Sequence[Case]) -> Row:
    return _row(own, 0, 0, 0.0)


def _explicit(cases: Sequence[Case], limit_s: float, faults: Sequence[Fault]) -> tuple[Times, Share]:
    """Times of those detected, and how many of all were detected in time."""
    own = [case for case in cases if case.explicit and case.truth in faults]
    in_time = sum(case.detected and case.detect_s is not None and case.detect_s <= limit_s for case in own)
    return _times(case.detect_s for case in own if case.detected), share(in_time, len(own))


def _machines(cases: Sequence[Case], runs: Sequence[Run]) -> Machines:
    own = [case for case in cases if case.machine]
    named = sum(case.named and case.detect_s is not None and case.detect_s <= MACHINE_S for case in own)
    accused, wrongly = sum(run.accused for run in runs), sum(run.accused_wrongly for run in runs)
    recall, precision = share(named, len(own)), share(accused - wrongly, accused)
    found, right = recall.rate or 0.0, precision.rate or 0.0
    return Machines(recall=recall, precision=precision, f1=round(2 * found * right / (found + right), 4) if found + right else None)


# --- as a page

_COLUMNS: tuple[tuple[str, Callable[[Row], object]], ...] = (
    ("n", lambda row: row.n), ("noticed", lambda row: row.noticed), ("noticed, s", lambda row: row.notice_s),
    ("recall", lambda row: row.recall), ("detected, s", lambda row: row.detect_s), ("precision", lambda row: row.precision),
    ("located", lambda row: row.located), ("right verb", lambda row: row.right_verb), ("recovered", lambda row: row.recovered),
    ("recovery, s", lambda row: row.recover_s),
    ("false alarms per 1,000 node-hours", lambda row: row.false_alarms),
)  # fmt: skip
_KIND_COLUMNS = tuple(pair for pair in _COLUMNS if pair[0] not in ("precision", "false alarms per 1,000 node-hours"))


def markdown(made: Table) -> str:
    """The table as a page."""
    parts = ["# Faults found and repaired (simulated)", _HEAD]
    parts += [_policies(made)] if made.policies else []
    parts += [_page(policy) for policy in made.policies]
    if made.failed:
        parts.append("Runs that failed:\n\n" + "\n".join(f"- `{command}`: {words}" for command, words in made.failed))
    return "\n\n".join(parts) + "\n"


_HEAD = """Every figure is of the simulator. Rates: share (95 % interval by Wilson; hits/n). Times: 50th, 90th and 99th percentile in
seconds from the fault's beginning, of those detected or recovered. False alarms: per 1,000 observed node-hours (95 % interval by Byar;
count)."""


def _lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _policies(made: Table) -> str:
    head = ("policy", "scenario", "runs", "observed node-hours", *(name for name, _ in _COLUMNS), "ETTR mean, least", "machines' F1")
    rows = [
        (one.policy, one.scenario, len(one.seeds), round(one.node_hours), *(cell(one.every) for _, cell in _COLUMNS),
         f"{one.ettr[0]:.3f}, {one.ettr[1]:.3f}", one.machines.f1)
        for one in made.policies
    ]  # fmt: skip
    return "## All faults\n\n" + _lines(head, rows)


def _page(one: Policy) -> str:
    named = [name for name, _ in _COLUMNS]
    by = [_lines((what, *named), [(name, *(cell(row) for _, cell in _COLUMNS)) for name, row in rows.items()])
          for what, rows in (("group", one.groups), ("class", one.classes))]  # fmt: skip
    kinds = [(kind, *(cell(row) for _, cell in _KIND_COLUMNS)) for kind, row in one.kinds.items()]
    explicit = [(name, times.n, times, f"{LIMITS[name][0]:.0f}", in_time) for name, (times, in_time) in one.explicit.items()]
    machines = one.machines
    return "\n\n".join((
        f"## {one.policy}: {one.scenario}, {one.speed} speed, {len(one.seeds)} runs, {one.cpu_s:.0f} s of CPU", *by,
        _lines(("kind", *(name for name, _ in _KIND_COLUMNS)), kinds),
        "Faults that are told in words or numbers of their own:\n\n"
        + _lines(("where", "detected", "detected, s", "limit, s", "in time, of all"), explicit),
        f"Machines to be replaced: the right one accused within {MACHINE_S:.0f} s {machines.recall}, accusations that were right "
        f"{machines.precision}, F1 {machines.f1}. Of what is no fault {one.no_faults} was left alone.",
        "False alarms by check: " + (", ".join(f"{check} {count}" for check, count in one.false_checks.items()) or "none") + ".",
    ))  # fmt: skip
