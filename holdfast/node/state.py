"""What the agent of a node knows, in a file that `holdfast check` answers from."""

from pathlib import Path
from typing import Any

import msgspec

DEFAULT = "/run/holdfast/agent.json"
MOST_BYTES = 8 << 20


class StateError(ValueError):
    """No state of an agent; the message names the file and the reason."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that stands. since: Unix seconds."""

    check: str
    severity: str
    fault: str
    target: str
    since: float
    text: str
    action: str = ""
    node_action: str = ""


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """at: when it was written, Unix seconds; mode: observe, approve or auto; sources: what cannot be read now."""

    node: str
    at: float
    mode: str
    boot: str = ""
    standing: tuple[Standing, ...] = ()
    sources_down: tuple[str, ...] = ()
    figures: dict[str, Any] = {}


def save(path: Path, state: NodeState) -> None:
    """Write a state whole or not at all.

    raises OSError: the folder cannot be written
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(state) + b"\n")
    fresh.replace(path)


def load(path: Path) -> NodeState:
    """Read a state.

    raises StateError: it is not there, too large, or none
    """
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise StateError(f"{path}: over {MOST_BYTES} bytes")
        return msgspec.json.decode(data, type=NodeState)
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from error
    except msgspec.MsgspecError as error:
        raise StateError(f"{path}: {error}") from error
