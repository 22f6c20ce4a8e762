"""Where ranks sit: nodes and devices, as launchers, schedulers and the collective library tell them."""

import re

import msgspec

MOST_PLACES = 65_536

WORDS = ("Init COMPLETE",)
_INIT = re.compile(r"\brank (\d{1,6}) n[Rr]anks (\d{1,6})(?:.{0,80}?busId ([0-9a-fA-F]{1,12}))?")
_NODES = (
    re.compile(r"srun: error: ([\w.-]{1,128}): tasks? "),
    re.compile(r"(?:failed on node|Node failure on|on node|host) ([A-Za-z][\w.-]{0,127})(?=[:, ]|$)"),
    re.compile(r"\b(?:node|NodeName|IP)[:=] ?([\w.-]{1,128})"),
    re.compile(r"\bnode ([A-Za-z][\w.-]{0,120}\d[\w.-]{0,16}),"),
    re.compile(r"^([\w.-]{1,128}): ssh exited with"),
)
_TASK = re.compile(r"srun: error: [\w.-]{1,128}: task (\d{1,6}): ")
_STOP = frozenset({"is", "was", "has", "the", "a", "and", "due", "with", "at", "in", "to", "for", "because"})


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Where one rank sits. device: PCI address, "" unknown; ranks: of the largest communicator that told of it."""

    node: str
    device: str = ""
    ranks: int = 0


class Places(msgspec.Struct):
    """What is known of where the ranks of a job sit; bounded."""

    of: dict[int, Place] = {}

    def note(self, text: str, node: str) -> None:
        """Learn from a line with which a communicator says that it is ready. node: who wrote it."""
        said = _INIT.search(text)
        if said is None:
            return
        rank, ranks = int(said.group(1)), int(said.group(2))
        known = self.of.get(rank)
        if (known is None or ranks > known.ranks) and (node or said.group(3)):
            self._put(rank, Place(node, address(said.group(3)) if said.group(3) else "", ranks))

    def seen(self, rank: int, node: str) -> None:
        """Learn from a writer that says both."""
        known = self.of.get(rank)
        if rank >= 0 and node and (known is None or not known.node):
            self._put(rank, Place(node, known.device if known else "", known.ranks if known else 0))

    def node_of(self, rank: int) -> str:
        """Where a rank sits, "" if nobody told."""
        known = self.of.get(rank)
        return known.node if known else ""

    def rank_at(self, node: str, device: str) -> int:
        """The rank on a device, -1 unknown. device: PCI address as any program prints it; node "": whichever has it alone."""
        short = _short(device)
        found = [rank for rank, at in self.of.items() if _short(at.device) == short and at.device and node in ("", at.node)]
        return found[0] if len(found) == 1 else -1

    def _put(self, rank: int, place: Place) -> None:
        if rank in self.of or len(self.of) < MOST_PLACES:
            self.of[rank] = place


def address(bus: str) -> str:
    """`1b000`, as NCCL prints it, -> `0000:1b:00`."""
    number = int(bus, 16)
    return f"{number >> 20 & 0xFFFF:04x}:{number >> 12 & 0xFF:02x}:{number >> 4 & 0xFF:02x}"


def node_in(text: str) -> str:
    """The node a scheduler's or launcher's line speaks of, "" if none."""
    for form in _NODES:
        said = form.search(text[:2000])
        if said and said.group(1).lower() not in _STOP and len(said.group(1)) > 1:
            return said.group(1).rstrip(".")
    return ""


def task_in(text: str) -> int:
    """The task a line of srun speaks of, -1 if none."""
    said = _TASK.search(text[:400])
    return int(said.group(1)) if said else -1


def _short(device: str) -> str:
    parts = device.lower().split(".")[0].split(":")
    return ":".join(parts[-2:])
