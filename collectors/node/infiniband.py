"""InfiniBand and RoCE ports from /sys/class/infiniband: state, rate, port and hardware counters."""

import re

from collectors.node.notes import Notes, Place
from collectors.node.tree import Tree
from holdfast.topology import Kind

_STATE = re.compile(r"^\s*(\d{1,2})\s*:")
_RATE = re.compile(r"^\s*([\d.]{1,12})\s*Gb/sec(?:\s*\((\d{1,2})X)?")

# File below counters/ or hw_counters/ -> our signal. Names: Documentation/ABI/stable/sysfs-class-infiniband in the Linux
# kernel, and mlx5's hw_counters. Words are four bytes in port_*_data.
COUNTERS = {
    "counters/link_downed": "nic.link_downed_total",
    "counters/link_error_recovery": "nic.link_recoveries_total",
    "counters/symbol_error": "nic.symbol_errors_total",
    "counters/local_link_integrity_errors": "nic.integrity_errors_total",
    "counters/excessive_buffer_overrun_errors": "nic.buffer_overruns_total",
    "counters/port_rcv_errors": "nic.rx_errors_total",
    "counters/port_rcv_remote_physical_errors": "nic.rx_remote_errors_total",
    "counters/port_xmit_discards": "nic.tx_discards_total",
    "counters/port_rcv_data": "nic.rx_words_total",
    "counters/port_xmit_data": "nic.tx_words_total",
    "counters/port_xmit_wait": "nic.tx_wait_total",
    "hw_counters/out_of_buffer": "nic.out_of_buffer_total",
    "hw_counters/out_of_sequence": "nic.out_of_sequence_total",
    "hw_counters/packet_seq_err": "nic.sequence_errors_total",
    "hw_counters/local_ack_timeout_err": "nic.ack_timeouts_total",
    "hw_counters/rnr_nak_retry_err": "nic.rnr_retries_total",
    "hw_counters/roce_adp_retrans": "nic.retransmits_total",
    "hw_counters/rx_icrc_encapsulated": "nic.icrc_errors_total",
    "hw_counters/req_cqe_error": "nic.request_errors_total",
    "hw_counters/resp_cqe_error": "nic.response_errors_total",
}
_BYTES_PER_WORD = 4.0
ACTIVE = 4.0


def ports_root(tree: Tree) -> str:
    """The folder of the devices, "" if the tree has none: whole, from /sys/class on, or the devices alone."""
    for below in (f"{tree.sys}/class/infiniband", f"{tree.root}/class/infiniband", f"{tree.root}/infiniband", tree.root):
        if any(tree.is_dir(f"{below}/{name}/ports") for name in tree.names(below)[:512]):
            return below
    return ""


def read(tree: Tree, notes: Notes) -> None:
    """Note every port of every device."""
    root = ports_root(tree)
    boards: dict[tuple[str, str], list[tuple[str, float, float]]] = {}
    for device in tree.names(root) if root else ():
        base = f"{root}/{device}"
        ports = tree.names(f"{base}/ports")
        board = tree.text(f"{base}/board_id") or tree.text(f"{base}/hca_type") or ""
        for port in ports:
            name = device if len(ports) == 1 else f"{device}/{port}"
            layer, state, rate = _port(tree, notes, f"{base}/ports/{port}", f"{device}:{port}", name)
            boards.setdefault((board, layer), []).append((f"{device}:{port}", state, rate))
    note_alike(boards, notes)


def _port(tree: Tree, notes: Notes, base: str, id: str, name: str) -> tuple[str, float, float]:
    """Note one port; (link layer, state, rate in bits per second)."""

    def note(signal: str, value: float | None, file: str, text: str) -> None:
        notes.add(Kind.NIC, id, signal, value, Place(tree.shown(f"{base}/{file}"), 1, text, name))

    layer = tree.text(f"{base}/link_layer") or ""
    note("nic.is_infiniband", float(layer == "InfiniBand") if layer else None, "link_layer", layer)
    state_text, phys_text, rate_text = (tree.text(f"{base}/{file}") or "" for file in ("state", "phys_state", "rate"))
    state, phys = state_of(state_text), state_of(phys_text)
    note("nic.state_id", state, "state", state_text)
    note("nic.up", None if state is None else float(state == ACTIVE), "state", state_text)
    note("nic.phys_state_id", phys, "phys_state", phys_text)
    rate, lanes = rate_of(rate_text)
    note("nic.rate_bps", rate, "rate", rate_text)
    note("nic.lanes", lanes, "rate", rate_text)
    for file, signal in COUNTERS.items():
        text = tree.text(f"{base}/{file}")
        if text is not None:
            value = _count(text)
            scale = _BYTES_PER_WORD if signal.endswith("_words_total") else 1.0
            note(signal.replace("_words_", "_bytes_"), None if value is None else value * scale, file, text)
    return layer, state if state is not None else -1.0, rate or 0.0


def note_alike(boards: dict[tuple[str, str], list[tuple[str, float, float]]], notes: Notes) -> None:
    """What ports of one board and link layer have in common: how many of them are up, and the rate most of them have."""
    for alike in boards.values():
        up = [rate for _, state, rate in alike if state == ACTIVE]
        usual = max(set(up), key=lambda rate: (up.count(rate), rate), default=0.0)
        for id, _, _ in alike:
            place = notes.place(Kind.NIC, id, "nic.state_id")
            if place is None:
                continue
            notes.add(Kind.NIC, id, "nic.alike", float(len(alike)), place)
            notes.add(Kind.NIC, id, "nic.alike_up", float(len(up)), place)
            if usual and up.count(usual) * 2 > len(up):
                notes.add(Kind.NIC, id, "nic.rate_usual_bps", usual, notes.place(Kind.NIC, id, "nic.rate_bps") or place)


def state_of(text: str) -> float | None:
    """The number before a state's name: "4: ACTIVE" is 4."""
    found = _STATE.match(text)
    return float(found.group(1)) if found else None


def rate_of(text: str) -> tuple[float | None, float | None]:
    """(bits per second, lanes) of "400 Gb/sec (4X NDR)"."""
    found = _RATE.match(text)
    if found is None:
        return None, None
    try:
        return float(found.group(1)) * 1e9, float(found.group(2)) if found.group(2) else None
    except ValueError:
        return None, None


def _count(text: str) -> float | None:
    try:
        return float(int(text[:32]))
    except ValueError:
        return None
