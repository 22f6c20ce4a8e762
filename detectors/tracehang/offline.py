"""`holdfast diagnose hang`: dumps, stacks, RAS and process tables on disk -> the verdict."""

from collections.abc import Mapping, Sequence

import msgspec

from detectors.tracehang import flightrecorder
from detectors.tracehang.gather import KINDS, Pile, kind_of
from detectors.tracehang.graph import write_svg
from detectors.tracehang.judge import judge
from detectors.tracehang.unpickle import MOST_BYTES
from holdfast.ports import Input
from holdfast.verdict import Skipped, Verdict


class Hang:
    """The diagnoser `hang`. options: world_size, the number of ranks there should be; graph, an SVG file to write."""

    kinds: Mapping[str, str] = KINDS

    def recognise(self, name: str, head: bytes) -> str:
        return kind_of(head) or (
            "flight_recorder" if head[:1] == b"\x80" and flightrecorder.rank_of_name(name) is not None else ""
        )

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        pile = Pile()
        for given in inputs:
            try:
                if given.path.stat().st_size > MOST_BYTES:
                    pile.skipped.append(Skipped(given.name, f"over {MOST_BYTES} bytes"))
                    continue
                data = given.path.read_bytes()
            except OSError as error:
                pile.skipped.append(Skipped(given.name, error.strerror or str(error)))
                continue
            pile.add(given.name, data, kind=given.kind)
        case = pile.case(int(options.get("world_size", "0")))
        if options.get("graph"):
            write_svg(case, options["graph"])
        return msgspec.structs.replace(judge(case), skipped=tuple(pile.skipped))
