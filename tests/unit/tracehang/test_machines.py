"""What a job's machines show: stillness that makes a claim sooner, and the device that does not do what the others do."""

from collections.abc import Sequence

import pytest

from detectors.tracehang.online import Tracehang
from holdfast.events import Dump, Dumps, Finding, Samples
from holdfast.faults import HangCause, Judgement
from holdfast.topology import rank_of
from tests.unit.detectors.seen import JOB, beats, job, samples, steps
from tests.unit.tracehang.fleet import Fleet

STEP_S, RANKS = 6.0, 8
WORK, SPIN, IDLE = (0.95, 600.0), (1.0, 200.0), (0.0, 95.0)
LOW = (1.0, 120.0)  # fully busy, and at less power than those that spin


def page(at: float, loads: Sequence[tuple[float, float]]) -> Samples:
    return samples(at, {"gpu.util_ratio": [busy for busy, _ in loads], "gpu.power_w": [power for _, power in loads]})


def traffic(at: float, sent: float) -> Samples:
    return samples(at, {"nic.tx_bytes_total": [sent] * RANKS})


class Line:
    """A job of one node that has stepped for long, with pages of its node, and stands still since `stopped_at`."""

    def __init__(self, *, seen: bool = True) -> None:
        self.detector, self.now, self.stopped_at = Tracehang(readers=0), 1000.0, 0.0
        self.said: list[Finding] = list(self.detector.observe(job(self.now, "started")))
        for step in range(12):
            self.now += STEP_S
            self.take(steps(self.now, step, {"step_s": [STEP_S] * RANKS}), beats(self.now, step=step, stepped_at=self.now, ranks=RANKS))
            if seen:
                self.take(page(self.now, [WORK] * RANKS), traffic(self.now, 1e9 * self.now))
        self.stopped_at = self.now

    def take(self, *seen: object) -> None:
        for one in seen:
            self.said.extend(self.detector.observe(one))  # type: ignore[arg-type]
        self.said.extend(self.detector.tick(self.now))
        memory = self.detector.snapshot()
        self.detector = Tracehang(readers=0)
        self.detector.restore(memory)

    def still(self, seconds: int, *seen: tuple[int, Samples]) -> "Line":
        """Beats go on and no step comes; seen: seconds after the last step -> a page."""
        for _ in range(seconds):
            self.now += 1.0
            self.take(beats(self.now, step=11, stepped_at=self.stopped_at, ranks=RANKS))
            self.take(*(one for after_s, one in seen if self.stopped_at + after_s == self.now))
        return self

    def sends(self, fleet: Fleet) -> "Line":
        sent = tuple(
            Dump(target=rank_of(JOB, rank, node="n0"), name=f"fr_rank{rank}", data=fleet.dump(rank)) for rank in fleet.ranks
        )
        self.take(Dumps(at=self.now, source="agent:n0", job=JOB, order="o1", dumps=sent, complete=True))
        return self

    @property
    def claimed_s(self) -> float | None:
        """Seconds from the last step to the claim."""
        return next((f.at - self.stopped_at for f in self.said if f.check == "tracehang.silence"), None)

    @property
    def verdict(self) -> Finding | None:
        return next((f for f in self.said if f.id == "tracehang/o1"), None)


def at(after_s: int, loads: Sequence[tuple[float, float]]) -> tuple[int, Samples]:
    return after_s, page(1000.0 + 12 * STEP_S + after_s, loads)


def equal() -> Fleet:
    """All have entered the second operation, and no device has finished it."""
    world = tuple(range(RANKS))
    fleet = Fleet({"world": world}, {rank: [("world", "all_reduce")] * 2 for rank in world})
    for rank in fleet.ranks.values():
        rank.done -= 1
    return fleet


@pytest.mark.parametrize(
    ("seen", "claimed_s"),
    [
        pytest.param([], 31.0, id="nothing else is known"),
        pytest.param([at(8, [SPIN] * RANKS)], 16.0, id="all devices spin"),
        pytest.param([at(8, [*[SPIN] * 7, IDLE])], 16.0, id="all but one"),
        pytest.param([at(8, [WORK] * RANKS)], 31.0, id="devices work, in an evaluation perhaps"),
        pytest.param([at(8, [IDLE] * RANKS)], 31.0, id="devices are idle, in a checkpoint perhaps"),
        pytest.param([at(3, [SPIN] * RANKS)], 31.0, id="they spun while the step might still have ended"),
        pytest.param([at(8, [SPIN] * RANKS), at(12, [WORK] * RANKS)], 31.0, id="they work again"),
        pytest.param([(8, traffic(1080.0, 1.072e12)), (12, traffic(1084.0, 1.072e12))], 16.0, id="no link carries anything"),
        pytest.param([(8, traffic(1080.0, 1.072e12)), (12, traffic(1084.0, 1.076e12))], 31.0, id="links carry what they do"),
    ],
)
def test_other_still_signals_make_a_claim_sooner(seen: list[tuple[int, Samples]], claimed_s: float) -> None:
    assert Line().still(40, *seen).claimed_s == claimed_s


@pytest.mark.parametrize(
    ("loads", "culprit"),
    [
        pytest.param([*[SPIN] * 5, IDLE, *[SPIN] * 2], "5", id="one device is idle while its peers spin"),
        pytest.param([*[SPIN] * 5, LOW, *[SPIN] * 2], "5", id="one is busy with something else at less power"),
        pytest.param([SPIN] * RANKS, None, id="all spin"),
        pytest.param([IDLE] * RANKS, None, id="all are idle"),
        pytest.param([SPIN] * 7, None, id="whose device is whose cannot be told"),
    ],
)
def test_where_all_dumps_are_equal_the_devices_tell_who_it_is(loads: list[tuple[float, float]], culprit: str | None) -> None:
    verdict = Line().still(20, at(10, loads)).sends(equal()).still(45).verdict
    assert verdict is not None
    assert [one.id for one in verdict.culprits] == ([culprit] if culprit else [])
    assert verdict.judgement is (Judgement.CULPRIT if culprit else Judgement.UNDECIDED)
    assert (verdict.cause == HangCause.DEVICE_STUCK) == bool(culprit)


def test_a_verdict_that_names_nobody_waits_for_the_next_page() -> None:
    line = Line().still(20).sends(equal())
    assert line.verdict is None
    line.still(5, at(24, [*[SPIN] * 7, IDLE]))
    assert line.verdict is not None
    assert [(one.id, one.node) for one in line.verdict.culprits] == [("7", "n0")]


@pytest.mark.parametrize(("seen", "after_s"), [(False, 0), (True, 50)], ids=["not where no machine tells", "and not for ever"])
def test_how_long_it_waits(seen: bool, after_s: int) -> None:
    line = Line(seen=seen).still(20).sends(equal())
    assert (line.verdict is None) == bool(after_s)
    verdict = line.still(after_s).verdict
    assert verdict is not None
    assert verdict.judgement is Judgement.UNDECIDED


def test_a_job_that_goes_on_meanwhile_is_judged_no_more() -> None:
    line = Line().still(20).sends(equal())
    line.now += 1.0
    line.take(beats(line.now, step=12, stepped_at=line.now, ranks=RANKS))
    assert line.still(50).verdict is None
