"""Settings -> a pipeline: the one place where names become parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.board import Board
from holdfast.config import Config, ConfigError
from holdfast.faults import Verb
from holdfast.pipeline import Journal, Pipeline
from holdfast.plugins import make
from holdfast.ports import Backend, Closing, Collector, Delivering, Detector, Exporter, Planner, Scraped, Watching

# An agent or a service that dies while it collects begins again; a claim waits for so many tries.
_PATIENCE = 4.0


@dataclass(frozen=True)
class Parts:
    """What has been made, by name."""

    pipeline: Pipeline
    board: Board
    backends: Mapping[str, Backend]
    exporters: Mapping[str, Exporter]

    def metrics(self) -> bytes:
        """The page for Prometheus: of every exporter that has one."""
        return b"".join(exporter.page() for exporter in self.exporters.values() if isinstance(exporter, Scraped))

    def closing(self) -> list[Closing]:
        """The parts that have something to finish when the service ends."""
        parts = (*self.pipeline.collectors, *self.backends.values(), *self.exporters.values())
        return [part for part in parts if isinstance(part, Closing)]


def assemble(
    config: Config, *, journal: Journal | None = None, collectors: Sequence[Collector] = (),
    backends: Mapping[str, Backend] | None = None, exporters: Mapping[str, Exporter] | None = None,
    detectors: Mapping[str, Detector] | None = None, board: Board | None = None, live: bool = True,
) -> Parts:  # fmt: skip
    """Make every part the settings name and join them.

    collectors, backends, exporters: further ones, such as the agents' door, or a simulated cluster's
    detectors: these in place of the installed ones; board: the view to keep
    live: with collectors, backends and exporters; otherwise only what decides, for a replay
    raises ConfigError: an unknown plugin, key or word, by name
    """
    board = board or Board()
    judging: dict[str, Detector] = _made(config, "detectors") if detectors is None else dict(detectors)
    acting: dict[str, Backend] = {**(_made(config, "backends") if live else {}), **(backends or {})}
    own: dict[str, Collector] = _made(config, "collectors") if live else {}
    telling: dict[str, Exporter] = {**(_made(config, "exporters") if live else {}), **(exporters or {})}
    book, planner = _remedier(config)
    pipeline = Pipeline(
        detectors=judging,
        book=book,
        planner=planner,
        collectors=(*collectors, *own.values()),
        backends=tuple(acting.values()),
        exporters=tuple(telling.values()),
        views={"board": board},
        journal=journal,
        strict=not live,
    )
    _watch(telling)
    return Parts(pipeline, board, acting, telling)


def _watch(exporters: Mapping[str, Exporter]) -> None:
    """Have shown what the others could not deliver: a loss is counted where people look."""
    for watcher in exporters.values():
        if isinstance(watcher, Watching):
            for name, exporter in exporters.items():
                if isinstance(exporter, Delivering):
                    watcher.watch(name, exporter.delivery)


def _made(config: Config, group: str) -> dict[str, Any]:
    return {name: make(group, name, config.settings(group, name)) for name in config.names(group)}


def _remedier(config: Config) -> tuple[Any, Planner]:
    """The book of incidents and the guarded planner: the guards' order, innermost first, is written here."""
    from remedier.guards import Avoid, Breaker, Budget, Mode, NoProgress, Permission
    from remedier.incidents import Book
    from remedier.planner import Ladder
    from remedier.playbook import Playbook, PlaybookError

    table = config.remedier
    try:
        playbook = Playbook.read(table.playbook)
        ladder = tuple(Verb(verb) for verb in table.ladder)
        mode, jobs = Mode(table.mode), {job: Mode(mode) for job, mode in table.jobs.items()}
    except (PlaybookError, ValueError) as error:
        raise ConfigError(f"[remedier]: {error}") from error
    book = Book(
        grace_s=table.settle_s, evidence_s=_PATIENCE * table.evidence_s, verify_s=table.verify_s, approval_s=table.approval_s
    )
    planner: Planner = Ladder(playbook=playbook, ladder=ladder, grace_s=table.grace_s, evidence_s=table.evidence_s)
    planner = NoProgress(inner=planner, most=table.no_progress)
    # what is refused for its mode has cost nothing, so the budget and the breaker count only what is let through
    planner = Permission(inner=planner, mode=mode, jobs=jobs)
    planner = Budget(inner=planner, most=table.budget, per_s=table.budget_per_s)
    planner = Breaker(inner=planner, most=table.breaker, per_s=table.breaker_per_s)
    return book, Avoid(inner=planner)  # the outermost: it sees only what is really done


