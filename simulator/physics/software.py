"""What the training program brings to the physics: how well its kernels run, what it overlaps, how uneven its steps are."""

import msgspec

from simulator.physics.tables import PhysicsError


class Software(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Properties of a training program on its machines.

    kernel_efficiency: FLOP/s of the layers' kernels over the device's peak, waiting and exposed communication apart: the
    one free constant, everything else has a source or is named an assumption in docs/simulator-physics.md
    tp_overlap, cp_overlap, ep_overlap: share of that communication hidden behind kernels. Flux (arXiv:2406.06858) hides
    up to 96 % of tensor-parallel communication, MegaScale (arXiv:2402.15627) most of it
    dp_overlap: share of the time that could hide gradients and parameters which does: the two streams slow each other
    bucket_bytes: gradients are reduced and parameters gathered in pieces of this size; the last of them hides behind nothing
    host_s: of a step in which the device waits for the host: logging, learning rate, the fetched loss
    spread: standard deviation of the speed of like devices. Sinha et al. (SC'22, arXiv:2208.11035) measured 8 % between
    the extremes of like GPUs on average, on matrix products; with 4 sigma for each side that is 1 %
    jitter: of one pass over a micro-batch; network_jitter: of the transfers of one group of replicas; assumed
    slow_share, slower: share of nodes that are slow without being broken, and by how much: 0.5 % and 10 % in MegaScale
    moved_bytes: per parameter that the optimizer reads and writes: 16 of states and gradient in, 14 of states out
    reserved_bytes: of a device's memory that the runtime, communication buffers and fragments take
    """

    kernel_efficiency: float = 0.70
    tp_overlap: float = 0.8
    cp_overlap: float = 0.8
    ep_overlap: float = 0.5
    dp_overlap: float = 0.5
    bucket_bytes: float = 160e6
    host_s: float = 0.01
    spread: float = 0.01
    jitter: float = 0.02
    network_jitter: float = 0.03
    slow_share: float = 0.0
    slower: float = 1.10
    moved_bytes: float = 30.0
    reserved_bytes: float = 6e9

    def __post_init__(self) -> None:
        shares = (self.tp_overlap, self.cp_overlap, self.ep_overlap, self.dp_overlap, self.slow_share)
        if not 0.0 < self.kernel_efficiency <= 1.0 or min(shares) < 0.0 or max(shares) > 1.0 or self.bucket_bytes <= 0.0:
            raise PhysicsError(f"a share outside 0..1 or no bucket_bytes in {self}")
