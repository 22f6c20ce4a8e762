"""Runs node-problem-detector's monitors over the lines of a node: the same buffers, the same matches, the same conditions."""

from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from detectors.npd.expressions import compiled
from detectors.npd.literals import required
from detectors.npd.monitors import Counter, LogMonitor, LogRule, PluginMonitor, PluginRule
from detectors.npd.stamps import stamped

_MOST_COUNTED = 4_096
_MOST_TEXT = 4_000
# What may match the end of a line inside a pattern, or frees a part of it from having to reach the end.
_OVER_LINES = ("\\n", "\\s", "\\W", "\\D", "\\z", "[^", "(?s", "[[:", "\\x", "|", "\\p", "\\P", "\n")


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that matched, or a condition that changed.

    problem: True: it is so now; False: it is over; None: nobody knows (a plugin that failed)
    line: number of the first matched line, from 1; at: its time, None where it has none; text: all matched lines
    """

    source: str
    reason: str
    condition: str
    permanent: bool
    problem: bool | None
    line: int = 0
    at: float | None = None
    text: str = ""


class _Pattern:
    """A pattern as node-problem-detector runs it: it has to match to the end of what is given."""

    def __init__(self, pattern: str) -> None:
        words = [max(word.split("\n"), key=len) for word in required(pattern) or ()]
        self.words = tuple(sorted(words)) if all(words) else ()
        self.over_lines = any(sign in pattern for sign in _OVER_LINES)
        self._form = compiled(f"{pattern}\\z")

    def may_end(self, text: str) -> bool:
        """Whether a match may end with this line, by what the line holds."""
        return self.over_lines or not self.words or any(word in text for word in self.words)

    def start(self, text: str) -> int | None:
        """Where the match begins, None if there is none."""
        found = self._form.search(text)
        return int(found.start()) if found is not None else None


class LogWatch:
    """One log monitor at work. `state` of a condition: the reason that made it true, "" while the node is well."""

    def __init__(self, monitor: LogMonitor) -> None:
        self.monitor = monitor
        self.state = {condition.type: "" for condition in monitor.conditions}
        self._patterns = [(rule, _Pattern(rule.pattern)) for rule in monitor.rules]
        self._lines: deque[tuple[int, float | None, str]] = deque([(0, None, "")] * monitor.lines, maxlen=monitor.lines)
        self._message = compiled(monitor.message) if monitor.message else None
        self._timestamp = compiled(monitor.timestamp) if monitor.timestamp else None
        self._held = [0] * len(self._patterns)

    def feed(self, number: int, line: str, *, since: float | None = None) -> Iterator[Match]:
        """Take one line as it stands in its log; since: Unix seconds, before which nothing counts."""
        taken = self._taken(line)
        if taken is None or (since is not None and taken[0] is not None and taken[0] < since):
            return
        at, text = taken
        self._lines.append((number, at, text))
        whole: str | None = None
        for n, (rule, pattern) in enumerate(self._patterns):
            if any(word in text for word in pattern.words):
                self._held[n] = self.monitor.lines
            elif pattern.words and (not pattern.over_lines or self._held[n] <= 0):
                continue
            self._held[n] -= 1
            whole = "\n".join(text for _, _, text in self._lines) if whole is None else whole
            start = pattern.start(whole)
            if start is not None:
                yield from self._matched(rule, whole, start)

    def _taken(self, line: str) -> tuple[float | None, str] | None:
        """Time and message of a line, None if the monitor does not look at it."""
        if self._message is not None:
            if any(word in line for word in self.monitor.skip) or (
                self._timestamp and not self._timestamp.search(line)
            ):
                return None
            found = self._message.search(line)
            if found is None:
                return None
            groups = found.groups()
            return stamped(line).at, (groups[-1] or "") if groups else found.group(0)
        message = stamped(line)
        if self.monitor.sender and message.sender != self.monitor.sender:
            return None
        if self.monitor.plugin == "kmsg" and (message.sender not in ("", "kernel") or not message.text.strip()):
            return None
        return message.at, message.text.strip() if self.monitor.plugin == "kmsg" else message.text

    def _matched(self, rule: LogRule, whole: str, start: int) -> Iterator[Match]:
        rest, taken = len(whole) - start, []
        for number, at, text in reversed(self._lines):
            taken.append((number, at, text))
            rest -= len(text) + 1
            if rest <= 0:
                break
        number, at, _ = next((row for row in reversed(taken) if row[0]), taken[-1])
        if rule.permanent:
            if self.state[rule.condition] == rule.reason:
                return  # said already: only a change is told
            self.state[rule.condition] = rule.reason
        yield Match(
            source=self.monitor.source, reason=rule.reason, condition=rule.condition, permanent=rule.permanent, problem=True,
            line=number, at=at, text="\n".join(text for _, _, text in reversed(taken))[:_MOST_TEXT],
        )  # fmt: skip

    def memory(self) -> Any:
        """What is remembered, to be kept elsewhere."""
        return [self.state, list(self._lines), self._held]

    def recall(self, memory: Any) -> None:
        """Go on from what was kept."""
        state, lines, self._held = memory
        self.state |= {key: value for key, value in state.items() if key in self.state}
        self._lines.extend((number, at, text) for number, at, text in lines)


class CounterWatch:
    """A counter of a journal at work: a condition while it was said often enough, or an event each time it becomes so."""

    def __init__(self, monitor: PluginMonitor, rule: PluginRule, counter: Counter) -> None:
        self.monitor, self.rule, self.counter = monitor, rule, counter
        self._pattern = _Pattern(counter.pattern)
        self._revert = _Pattern(counter.revert) if counter.revert else None
        self._said: deque[tuple[float, int]] = deque(maxlen=_MOST_COUNTED)
        self._is_on = False

    def feed(self, line: str, at: float, *, boot_at: float = 0.0) -> None:
        """Take one line; at: when it came, where it names no time of its own; boot_at: Unix seconds."""
        if not self._pattern.may_end(line) and (self._revert is None or not self._revert.may_end(line)):
            return
        message = stamped(line)
        if self.counter.sender and message.sender != self.counter.sender:
            return
        said_at = message.at if message.at is not None else at
        if said_at < boot_at + self.counter.delay_s:
            return
        if self._pattern.start(message.text) is not None:
            self._said.append((said_at, message.repeats))
        if self._revert is not None and self._revert.start(message.text) is not None:
            self._said.append((said_at, -message.repeats))

    def tick(self, now: float) -> Iterator[Match]:
        """What has changed by now."""
        while self.counter.lookback_s and self._said and self._said[0][0] < now - self.counter.lookback_s:
            self._said.popleft()
        count = sum(times for _, times in self._said)
        is_on = count >= self.counter.count
        if is_on != self._is_on:
            self._is_on = is_on
            if is_on or self.rule.permanent:
                text = f"said {count} times within {self.counter.lookback_s:.0f} s: {self.counter.pattern}"
                yield _match(self.monitor, self.rule, problem=is_on, text=text, at=now)

    def memory(self) -> Any:
        """What is remembered, to be kept elsewhere."""
        return [list(self._said), self._is_on]

    def recall(self, memory: Any) -> None:
        """Go on from what was kept."""
        said, self._is_on = memory
        self._said = deque(((at, times) for at, times in said), maxlen=_MOST_COUNTED)


def judge(
    monitor: PluginMonitor, rule: PluginRule, status: int | None, output: str, *, at: float | None = None
) -> Match | None:
    """What a plugin's exit says: 0 well, 1 not, any other or none (it was stopped for its time) nobody knows.

    Of an event only the problem is told; output: what it printed, cut as the monitor wants it
    """
    problem = {0: False, 1: True}.get(status if status is not None else 2)
    if not rule.permanent and not problem:
        return None
    return _match(monitor, rule, problem=problem, text=output.strip()[: monitor.output_most], at=at)


def _match(monitor: PluginMonitor, rule: PluginRule, *, problem: bool | None, text: str, at: float | None) -> Match:
    if not problem and problem is not None:
        text = next((known.message for known in monitor.conditions if known.type == rule.condition), text)
    return Match(
        source=monitor.source,
        reason=rule.reason,
        condition=rule.condition,
        permanent=rule.permanent,
        problem=problem,
        at=at,
        text=text,
    )
