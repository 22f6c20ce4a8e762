"""Settings -> a pipeline: the one place where names become parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from holdfast.board import Board
from holdfast.config import Config, ConfigError
from holdfast.faults import Verb
from holdfast.pipeline import Journal, Pipeline
from holdfast.plugins import make
from holdfast.ports import Backend, Collector, Detector, Planner


@dataclass(frozen=True)
class Parts:
    """What has been made, by name."""

    pipeline: Pipeline
    board: Board
    backends: Mapping[str, Backend]


def assemble(
    config: Config, *, journal: Journal | None = None, collectors: Sequence[Collector] = (),
    backends: Mapping[str, Backend] | None = None, live: bool = True,
) -> Parts:  # fmt: skip
    """Make every part the settings name and join them.

    collectors, backends: further ones, such as the agents' door, or a simulated cluster's
    live: with collectors, backends and exporters; otherwise only what decides, for a replay
    raises ConfigError: an unknown plugin, key or word, by name
    """
    board = Board()
    detectors: dict[str, Detector] = _made(config, "detectors")
    acting: dict[str, Backend] = {**(_made(config, "backends") if live else {}), **(backends or {})}
    own: dict[str, Collector] = _made(config, "collectors") if live else {}
    book, planner = _remedier(config)
    pipeline = Pipeline(
        detectors=detectors,
        book=book,
        planner=planner,
        collectors=(*collectors, *own.values()),
        backends=tuple(acting.values()),
        exporters=tuple(_made(config, "exporters").values()) if live else (),
        views={"board": board},
        journal=journal,
        strict=not live,
    )
    return Parts(pipeline, board, acting)


def _made(config: Config, group: str) -> dict[str, Any]:
    return {name: make(group, name, config.settings(group, name)) for name in config.names(group)}


def _remedier(config: Config) -> tuple[Any, Planner]:
    """The book of incidents and the guarded planner: the guards' order, innermost first, is written here."""
    from remedier.guards import Budget, Mode, NoProgress, Permission
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
    book = Book(grace_s=table.settle_s, evidence_s=table.evidence_s + 5.0, verify_s=table.verify_s)
    planner: Planner = Ladder(playbook=playbook, ladder=ladder, grace_s=table.grace_s, evidence_s=table.evidence_s)
    planner = NoProgress(inner=planner, most=table.no_progress)
    # what is refused for its mode has cost nothing, so the budget counts only what is let through
    planner = Permission(inner=planner, mode=mode, jobs=jobs)
    return book, Budget(inner=planner, most=table.budget, per_s=table.budget_per_s)


