"""The line: first it is written, then it happens; a journal is decided again the same way, wherever it is cut."""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.assembly import assemble
from holdfast.config import Config, ConfigError, Remedier, parse
from holdfast.events import Beat, Beats, Change, Changes, Observation, Order, Outcome, Received, Steps
from holdfast.journal import Journal, JournalError
from holdfast.pipeline import Pipeline
from holdfast.ports import Collector
from holdfast.replay import replay
from holdfast.topology import JobId, Target, job_of, rank_of
from holdfast.wire import Heard, inputs_of_bytes, inputs_to_bytes

CONFIG = Config(remedier=Remedier(mode="auto", ladder=("restart",) * 3))


class Given:
    """A collector that gives one list an asking."""

    durable = True

    def __init__(self, rounds: list[list[Observation]]) -> None:
        self.rounds = list(rounds)

    def poll(self, now: float) -> Iterable[Observation]:
        return self.rounds.pop(0) if self.rounds else []


class Doing:
    """A backend that does everything at once. committed: what the journal held when an order came."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.committed: list[tuple[str, bool]] = []
        self.orders: list[Order] = []
        self._due: list[Order] = []

    def submit(self, order: Order) -> None:
        self.committed.append((order.id, order.id in {kept.id for kept in self.journal.unsettled()}))
        self.orders.append(order)
        self._due.append(order)

    def poll(self, now: float) -> Iterable[Outcome]:
        due, self._due = self._due, []
        return [Outcome(at=now, order=order.id, done=True) for order in due]

    def settle(self, outcome: Outcome) -> None:
        """Nothing is kept."""


def job_that_crashes(steps: int = 6) -> list[list[Observation]]:
    """A few steps, a rank that is killed, a new attempt that goes past the place."""
    rounds: list[list[Observation]] = [[_change(job_of("j"), "started", 100.0, 0)]]
    at = 100.0
    for step in range(steps):
        at += 1.0
        rounds.append(_step(step, at, 0))
    rounds.append([_change(rank_of("j", 1), "exited", at + 0.5, 0, signal=9)])
    rounds += [[] for _ in range(4)]
    at += 6.0
    rounds.append([_change(job_of("j"), "started", at, 1)])
    for step in range(steps - 2, steps + 4):
        at += 1.0
        rounds.append(_step(step, at, 1))
    return rounds


def _change(target: Target, state: str, at: float, attempt: int, signal: int | None = None) -> Changes:
    change = Change(target=target, state=state, at=at, attempt=attempt, signal=signal)
    return Changes(at=at, source="agent:n", job=JobId("j"), changes=(change,))


def _step(step: int, at: float, attempt: int) -> list[Observation]:
    where: dict[str, Any] = {"source": "agent:n", "job": JobId("j")}
    ranks = np.arange(2)
    return [
        Received(at=at, agent="n", boot="b", sequence=step + 1 + 100 * attempt, source="agent:n", job=JobId("j")),
        Steps(
            at=at,
            ranks=ranks,
            steps=np.full_like(ranks, step),
            ended_at=np.full(2, at),
            signals=("step_s", "loss"),
            values=np.full((2, 2), 1.0),
            **where,
        ),
        Beats(at=at, attempt=attempt, beats=tuple(Beat(rank=r, step=step, stepped_at=at) for r in (0, 1)), **where),
    ]


def run(journal: Journal, rounds: list[list[Observation]], *, snapshot_at: int = -1) -> tuple[Pipeline, Doing]:
    backend = Doing(journal)
    collectors: list[Collector] = [Given(rounds)]
    parts = assemble(CONFIG, journal=journal, collectors=collectors, backends={"doing": backend})
    for n in range(len(rounds)):
        parts.pipeline.step(101.0 + n)
        if n == snapshot_at:
            journal.snapshot(parts.pipeline.snapshot())
    return parts.pipeline, backend


def test_an_order_is_written_before_it_is_carried_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j", snapshots_kept=0)
    _, backend = run(journal, job_that_crashes())
    assert [verb for verb, _ in backend.committed] == ["i1/collect/1", "i1/restart/2"]
    assert all(written for _, written in backend.committed)


@settings(max_examples=20, deadline=None)
@given(st.integers(-1, 20))
def test_a_journal_is_decided_again_the_same_wherever_its_snapshot_is(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    journal = Journal(tmp_path_factory.mktemp("j") / "j", snapshots_kept=0)
    line, _ = run(journal, job_that_crashes(), snapshot_at=cut)
    again = assemble(CONFIG, live=False).pipeline
    done = replay(journal, again)
    assert done.difference is None
    assert again.snapshot() == line.snapshot()


def test_the_hash_is_the_same_under_another_hash_seed(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.unit.kernel.test_line import run, job_that_crashes;"
        "from holdfast.journal import Journal;"
        "j = Journal(Path(sys.argv[1]), snapshots_kept=0); run(j, job_that_crashes()); print(j.sha256())"
    )
    root = Path(__file__).resolve().parents[3]
    said = {
        subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / f"j{seed}")],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1


def test_an_order_that_was_not_answered_is_handed_out_again_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    collectors: list[Collector] = [Given(job_that_crashes()[:9])]
    silent = Doing(journal)
    silent.poll = lambda now: []  # type: ignore[method-assign]  # it takes orders and never says what became of them
    parts = assemble(CONFIG, journal=journal, collectors=collectors, backends={"silent": silent})
    for n in range(16):
        parts.pipeline.step(101.0 + n)
    journal.close()
    assert [order.id for order in Journal(tmp_path / "j").unsettled()] == [order.id for order in silent.orders] != []


def test_acknowledged_batches_are_known_after_a_restart(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j")
    run(journal, job_that_crashes(3))
    journal.close()
    assert Journal(tmp_path / "j").acknowledged() == {("n", "b"): 107}


def test_what_is_no_journal_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "j").write_text("this is a text, not a database; it is long enough to be looked at as one" * 20)
    with pytest.raises(JournalError, match="file is not a database"):
        Journal(tmp_path / "j")


def test_inputs_survive_the_wire() -> None:
    inputs: list[Heard] = [event for events in job_that_crashes() for event in events]  # type: ignore[misc]
    back = inputs_of_bytes(inputs_to_bytes(inputs))
    assert [type(event) for event in back] == [type(event) for event in inputs]
    assert inputs_to_bytes(back) == inputs_to_bytes(inputs)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[service]\nprot = 1", "prot", id="an unknown key"),
        pytest.param("[remedier]\nmode = 3", "mode", id="a value of another type"),
        pytest.param("[service", "at end of document", id="not TOML"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(text, name="holdfast.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("[detectors.tracehang]\nfaktor = 2", "faktor", id="an argument the plugin has not"),
        pytest.param("[collectors.nothing]", "nothing", id="a plugin that is not installed"),
        pytest.param('[remedier]\nladder = ["jump"]', "jump", id="a verb that is none"),
    ],
)
def test_plugins_are_checked_when_they_are_made(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        assemble(parse(text))


def test_a_cluster_is_not_changed_by_default() -> None:
    assert Config().remedier.mode == "observe"
