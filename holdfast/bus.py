"""The line that carries events from stage to stage, one at a time and in order."""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from holdfast.events import Event

log = logging.getLogger(__name__)

Stage = Callable[[Any], Iterable[Event] | None]


class LoopError(RuntimeError):
    """Stages answer each other without end."""


class Bus:
    """Hands every event to the stages connected to its type, breadth first; their answers go to the end of the line.

    strict: a stage that raises stops everything, as in tests and in the simulator; otherwise its bug is logged,
        counted in `errors` and that one answer is dropped.
    most: answers one `drain` may take before it is called a loop.
    """

    def __init__(self, *, strict: bool = True, most: int = 1_000_000) -> None:
        self.strict = strict
        self.most = most
        self.errors: dict[str, int] = {}
        self._connected: list[tuple[type[Event], Stage]] = []
        self._stages: dict[type[Event], tuple[Stage, ...]] = {}
        self._line: deque[Event] = deque()

    def connect(self, kind: type[Event], stage: Stage) -> None:
        """Give events of `kind` and of its subclasses to `stage`, after the stages connected before."""
        self._connected.append((kind, stage))
        self._stages.clear()

    def publish(self, event: Event) -> None:
        """Put an event at the end of the line."""
        self._line.append(event)

    def drain(self) -> list[Event]:
        """Run until the line is empty; return every event that was a stage's answer, in order.

        raises LoopError: more than `most` answers.
        """
        line, stages, said = self._line, self._stages, list[Event]()
        while line:
            event = line.popleft()
            heard = stages.get(type(event))
            if heard is None:
                heard = self._resolve(type(event))
            for stage in heard:
                answers = stage(event) if self.strict else self._ask(stage, event)
                if answers:
                    before = len(said)
                    said.extend(answers)
                    line.extend(said[before:])
            if len(said) > self.most:
                line.clear()
                raise LoopError(f"over {self.most} answers to one step; the last was {type(said[-1]).__name__}")
        return said

    def _resolve(self, kind: type[Event]) -> tuple[Stage, ...]:
        found = tuple(stage for wanted, stage in self._connected if issubclass(kind, wanted))
        self._stages[kind] = found
        return found

    def _ask(self, stage: Stage, event: Event) -> list[Event]:
        try:
            # The list is made here because a generator's bug shows only when it is listened to.
            return list(stage(event) or ())
        except Exception:
            name = getattr(stage, "__qualname__", repr(stage))
            self.errors[name] = self.errors.get(name, 0) + 1
            log.exception("a stage failed and its answer is dropped: %s", name)
            return []
