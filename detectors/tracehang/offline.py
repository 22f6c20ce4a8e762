"""`holdfast diagnose hang`: dumps, stacks, RAS and process tables on disk -> the verdict."""

from collections.abc import Mapping, Sequence

import msgspec

from detectors.tracehang import flightrecorder
from detectors.tracehang.gather import Pile
from detectors.tracehang.graph import write_svg
from detectors.tracehang.judge import judge
from detectors.tracehang.pieces import KINDS, Piece, kind_of
from detectors.tracehang.readers import read_all
from holdfast.ports import Input
from holdfast.verdict import Verdict


class Hang:
    """The diagnoser `hang`.

    options: world_size, the number of ranks there should be; graph, an SVG file to write; processes, how many read the files
    """

    kinds: Mapping[str, str] = KINDS

    def recognise(self, name: str, head: bytes) -> str:
        kind = kind_of(head)
        if not kind and head[:1] == b"\x80" and flightrecorder.rank_of_name(name) is not None:
            return "flight_recorder"
        return "" if kind == "devices" else kind  # of health there is more to say in such a list than of a hang

    def diagnose(self, inputs: Sequence[Input], options: Mapping[str, str]) -> Verdict:
        pile = Pile()
        pieces = [Piece(name=given.name, kind=given.kind, path=str(given.path)) for given in inputs]
        for piece, content in read_all(pieces, processes=int(options.get("processes", "1"))):
            pile.take(piece, content)
        case = pile.case(int(options.get("world_size", "0")))
        verdict = judge(case)
        if options.get("graph"):
            write_svg(case, verdict, options["graph"])
        return msgspec.structs.replace(verdict, skipped=tuple(pile.skipped))
