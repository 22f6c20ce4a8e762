"""`holdfast diagnose training`: whether runs still learn, and as fast as before, from the step lines they printed."""

import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from detectors.training.episode import SLOW_SPIKE, Episode
from detectors.training.finite import Seen
from detectors.training.health import Health
from detectors.training.pace import SETTLING, Pace, aperiodic
from detectors.training.steplines import Record, Steplines
from detectors.training.verdicts import judge
from holdfast.ports import Input
from holdfast.verdict import Json, Skipped, Verdict

LEAST_IN_HEAD, LEAST_SHARE = 5, 0.5
MOST_EPISODES, MOST_ATTEMPTS = 10_000, 64
_COMPARED, _LEAST_COMPARED = 256, 5  # losses by which two files are told to be one run
_PAST = 3

_BINARY = re.compile(rb"\x00|^PAR1|^\x80[\x02-\x05]|^PK\x03\x04")
_ERROR = re.compile(rb"Traceback \(most recent call last\)|\b\w*(?:Error|Exception): |\[ERROR\]|Segmentation fault|Watchdog caught")
_RATES = ("tokens_per_s", "samples_per_s")
_PACES = ("step_s", *_RATES)


class Training:
    """Reads each file as one run; files that tell the same losses are one run told by several ranks."""

    kinds: Mapping[str, str] = {"training.steps": "step lines of a training run"}

    def recognise(self, name: str, head: bytes) -> str:
        if not head or _BINARY.search(head[:4096]) or _ERROR.search(head):
            return ""
        parser = Steplines()
        records = sum(1 for _ in parser.feed(1, head[: head.rfind(b"\n") + 1] or head)) + sum(1 for _ in parser.close())
        return "training.steps" if records >= LEAST_IN_HEAD or records > LEAST_SHARE * parser.lines else ""

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        runs: dict[str, Run] = {}
        skipped: list[Skipped] = []
        for given in inputs:
            run = Run(given.name)
            try:
                reason = run.read(given)
            except OSError as error:
                reason = error.strerror or str(error)
            if reason:
                skipped.append(Skipped(given.name, reason))
            elif (same := next((other for other in runs.values() if run.is_told_by(other)), None)) is not None:
                same.told_by.append(given.name)
            else:
                runs[given.name] = run
        return judge(
            {name: run.episodes() for name, run in runs.items()},
            steps={name: run.steps for name, run in runs.items()},
            skipped=skipped,
            detail={"runs": [run.summary() for run in runs.values()]},
        )


class Run:
    """What one file tells. steps: records; told_by: other files that tell the same."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = self.late = 0
        self.told_by: list[str] = []
        self._attempts = 1
        self._first: Record | None = None
        self._last: Record | None = None
        self._health, self._pace = Health(), Pace()
        self._found: dict[tuple[int, str, int], Episode] = {}
        self._spikes: list[Episode] = []
        self._ended: deque[tuple[int, int]] = deque(maxlen=MOST_ATTEMPTS)  # the newest attempts and the last step of each
        self._losses: dict[int, float] = {}

    def read(self, given: Input) -> str:
        """Take the whole file in; return why it cannot be used, "" if it can. raises OSError"""
        parser = Steplines()
        with given.path.open("rb") as file:
            if _BINARY.search(file.read(4096)):
                return "not text"
            file.seek(0)
            for record in parser.read(file):
                self._take(record)
        self._end_attempt()
        self.steps, self.late = parser.records, parser.late
        return "" if parser.records else "no step lines"

    def _take(self, record: Record) -> None:
        if self._last is not None and record.attempt != self._last.attempt:
            self._end_attempt()
            self._attempts += 1
            self._health, self._pace = Health(), Pace()
        self._first, self._last = self._first or record, record
        if record.loss is not None and len(self._losses) < _COMPARED:
            self._losses[record.step] = record.loss
        seen = Seen(
            record.step, record.loss, record.grad_norm, record.loss_scale, record.skipped, record.nan_iterations,
            record.scale_gone, record.line,
        )  # fmt: skip
        self._note(self._health.take(seen))
        seconds = self._seconds(record)
        if seconds is not None:
            self._note(self._pace.take(record.step, seconds, line=record.line, paused=record.paused))

    def _seconds(self, record: Record) -> float | None:
        """The time of a step, or what stands for it: the one series that this attempt has shown first."""
        if self._pace.settling == SETTLING:
            self._pace.signal = next((name for name in _PACES if getattr(record, name) is not None), self._pace.signal)
        value: float | None = getattr(record, self._pace.signal)
        if value is None or self._pace.signal == "step_s":
            return value
        return 1.0 / value if value > 0.0 else None

    def _note(self, said: Iterable[Episode]) -> None:
        for one in said:
            episode = msgspec.structs.replace(one, attempt=self._last.attempt if self._last else 0)
            key = (episode.attempt, episode.signal, episode.step)
            if episode.kind == SLOW_SPIKE:
                if len(self._spikes) < MOST_EPISODES:
                    self._spikes.append(episode)
            elif key in self._found or len(self._found) < MOST_EPISODES:
                self._found[key] = episode

    def _end_attempt(self) -> None:
        self._note(self._health.end())
        self._note(self._pace.end())
        if self._last is not None:
            self._ended.append((self._last.attempt, self._last.step))

    def episodes(self) -> list[Episode]:
        """What there is to say of it, in order; what a later attempt has passed in good health is over."""
        found = [*self._found.values(), *aperiodic(self._spikes)]
        found.sort(key=lambda e: (e.attempt, e.step, e.signal))
        return [_as_told(self._passed_by(e, found)) for e in found]

    def _passed_by(self, episode: Episode, found: Sequence[Episode]) -> Episode:
        if episode.recovered_at is not None:
            return episode
        broken = {e.attempt for e in found if e.signal == episode.signal and e.recovered_at is None}
        later = [(n, last) for n, last in self._ended if n > episode.attempt and n not in broken]
        over = any(last >= episode.step + _PAST for _, last in later)
        return msgspec.structs.replace(episode, recovered_at=episode.step) if over else episode

    def is_told_by(self, other: "Run") -> bool:
        """Whether two files tell of one run: ranks print the same losses, runs do not."""
        both = self._losses.keys() & other._losses.keys()
        same = sum(self._losses[step] == other._losses[step] for step in both)
        return len(both) >= _LEAST_COMPARED and same > 0.9 * len(both)

    def summary(self) -> Json:
        """What was read of it."""
        first, last = self._first, self._last
        row: dict[str, Json] = {"file": self.name, "steps": self.steps, "attempts": self._attempts}
        if first is not None and last is not None:
            row |= {"first_step": first.step, "last_step": last.step}
        if self.told_by:
            row["told_by"] = [*self.told_by]
        return row | ({"late": self.late} if self.late else {})


def _as_told(episode: Episode) -> Episode:
    """A rate as it was printed: it was judged by the time that it stands for."""
    if episode.signal not in _RATES:
        return episode
    return msgspec.structs.replace(episode, before=1.0 / episode.before, after=1.0 / episode.after)
