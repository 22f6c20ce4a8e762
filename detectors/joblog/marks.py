"""What has been found in a job's output: lines that mean something, and whose they are."""

import re

import msgspec

from detectors.joblog.places import Place
from detectors.joblog.prefix import Bare
from detectors.joblog.rules import Meaning
from detectors.joblog.tracebacks import Reader


class Mark(msgspec.Struct):
    """A line that means something. at: Unix seconds, 0.0 unknown; rank: -1 unknown; count: lines alike of this writer.

    early: the output had not told of a step yet
    """

    meaning: Meaning
    file: str
    line: int
    text: str
    rank: int = -1
    local: int = -1
    node: str = ""
    at: float = 0.0
    signature: str = ""
    place: str = ""
    count: int = 1
    last_line: int = 0
    trace: tuple[tuple[int, str], ...] = ()
    early: bool = False


class Whose(msgspec.Struct, frozen=True):
    """Whose output a file is, by its name: -1 and "" where the name does not say."""

    rank: int = -1
    local: int = -1
    node: str = ""


class Step(msgspec.Struct, frozen=True, array_like=True):
    """A step line of one output. at: Unix seconds, 0.0 unknown."""

    line: int
    at: float = 0.0


class Memory(msgspec.Struct):
    """A reading as it is kept, what is open of it included: going on from it changes nothing."""

    marks: list[tuple[tuple[str, str, str, str], Mark]] = []
    opened: list[tuple[str, Reader, Bare, float]] = []
    ended: dict[str, int] = {}
    steps: dict[str, list[Step]] = {}
    lines: int = 0
    ranks: list[int] = []
    nodes: list[str] = []
    stepped: list[str] = []
    lengths: dict[str, int] = {}
    places: dict[int, Place] = {}
    heard: list[str] = []


_RANK_NAME = re.compile(r"rank[_=.-]?(\d{1,6})|(?:^|[/_.-])r(\d{1,6})\.(?:log|out|err|txt)$", re.IGNORECASE)
_LOCAL_NAME = re.compile(r"(?:^|/)(\d{1,3})/(?:stdout|stderr)\.log$")
_NODE_NAME = re.compile(
    r"(?:^|[/_.-])((?:node|host|worker|master|vm|gpu|compute|pod|cn|n|nid|ip|dgx|hgx|[abh]\d00|server|srv|rack|blade|trainer)"
    r"[-_]?\d[\w-]{0,60}?)(?=[/.]|_rank|$)",
    re.IGNORECASE,
)


def whose(name: str) -> Whose:
    """Rank and node from the last parts of a path."""
    tail = "/".join(name.split("/")[-3:])
    rank, local, node = _RANK_NAME.search(tail), _LOCAL_NAME.search(tail), _NODE_NAME.search(tail)
    return Whose(
        int(rank.group(1) or rank.group(2)) if rank else -1,
        int(local.group(1)) if local else -1,
        node.group(1) if node else "",
    )


def owned(line: Bare, owner: Whose) -> Bare:
    """A line with what its file's name says of its writer, where its prefixes do not."""
    rank = line.rank if line.rank >= 0 else (line.label if line.label >= 0 else owner.rank)
    local = line.local if line.local >= 0 else owner.local
    return line._replace(rank=rank, local=local, node=line.node or owner.node)
