"""Network interfaces from /sys/class/net: links that are wanted and not there, bonds that lost a leg, error counters."""

from collectors.node.notes import Notes, Place
from collectors.node.tree import Tree
from holdfast.topology import Kind

_WANTED = 0x1  # IFF_UP: somebody has set the interface up
_INFINIBAND = "32"
_COUNTERS = {
    "statistics/rx_errors": "link.rx_errors_total",
    "statistics/tx_errors": "link.tx_errors_total",
    "statistics/rx_dropped": "link.rx_dropped_total",
    "carrier_changes": "link.carrier_changes_total",
}


def read(tree: Tree, notes: Notes) -> None:
    """Note every interface that has hardware behind it, and every bond."""
    root = f"{tree.sys}/class/net" if tree.sys else ""
    for name in tree.names(root)[:4096]:
        base = f"{root}/{name}"
        if tree.is_dir(f"{base}/bonding"):
            _bond(tree, notes, base, name)
        if tree.is_dir(f"{base}/device") and tree.text(f"{base}/type") != _INFINIBAND:
            _interface(tree, notes, base, name)


def _interface(tree: Tree, notes: Notes, base: str, name: str) -> None:
    flags, state = tree.number(f"{base}/flags"), tree.text(f"{base}/operstate") or ""
    place = Place(tree.shown(f"{base}/operstate"), 1, state, name)
    if flags is not None and state:
        notes.add(Kind.PART, name, "link.wanted_and_down", float(bool(int(flags) & _WANTED) and state in ("down", "lowerlayerdown")), place)
    for file, signal in _COUNTERS.items():
        count = tree.number(f"{base}/{file}")
        notes.add(Kind.PART, name, signal, count, Place(tree.shown(f"{base}/{file}"), 1, f"{count or 0:.0f}", name))
    speed = tree.number(f"{base}/speed") if state == "up" else None
    if speed is not None and speed > 0:
        notes.add(Kind.PART, name, "link.rate_bps", speed * 1e6, Place(tree.shown(f"{base}/speed"), 1, f"{speed:.0f}", name))


def _bond(tree: Tree, notes: Notes, base: str, name: str) -> None:
    legs = (tree.text(f"{base}/bonding/slaves") or "").split()
    up = [leg for leg in legs if _leg_is_up(tree, base, leg)]
    place = Place(tree.shown(f"{base}/bonding/slaves"), 1, f"{len(up)} of {len(legs)} legs up: {' '.join(legs)}", name)
    notes.add(Kind.PART, name, "bond.legs", float(len(legs)), place)
    notes.add(Kind.PART, name, "bond.legs_up", float(len(up)), place)


def _leg_is_up(tree: Tree, base: str, leg: str) -> bool:
    """As the bond sees it, else as the interface says."""
    for folder in (f"{base}/lower_{leg}", f"{base}/slave_{leg}", f"{base.rpartition('/')[0]}/{leg}"):
        state = tree.text(f"{folder}/bonding_slave/mii_status") or tree.text(f"{folder}/operstate")
        if state is not None:
            return state == "up"
    return True  # nothing says otherwise
