"""Ways to break a training job on purpose, each once over all restarts unless it says otherwise."""

import argparse
import ctypes
import os
import signal
import tempfile
import threading

FAULTS = ("stop", "kill", "skip", "block", "recv", "error", "nan", "spin", "exit", "dstate")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --fault, --fault-rank and --fault-step."""
    parser.add_argument("--fault", choices=FAULTS, help="how the job is to break")
    parser.add_argument("--fault-rank", type=int, default=1)
    parser.add_argument("--fault-step", type=int, default=20)


class Fault:
    """Says at which moment which fault strikes; a marker file remembers that it has."""

    def __init__(self, options: argparse.Namespace, rank: int, folder: str) -> None:
        self.kind = options.fault if options.fault and rank == options.fault_rank else None
        self.step = options.fault_step
        self._marker = os.path.join(folder, "fault.done")

    def due(self, kind: str, step: int) -> bool:
        """Whether `kind` strikes now; saying yes marks it as done."""
        if self.kind != kind or step != self.step:
            return False
        if kind == "error":  # deterministic: at every attempt
            return True
        try:
            os.close(os.open(self._marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        return True

    def strike_process(self, step: int) -> None:
        """The faults that need nothing of the job's own structure; call once a step."""
        if self.due("stop", step):
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.due("kill", step):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.due("exit", step):
            os._exit(3)
        if self.due("spin", step):
            hold_the_interpreter_lock()
        if self.due("dstate", step):
            sit_in_the_kernel()
        if self.due("error", step):
            parse_sample(f"sample {step}")


def parse_sample(sample: str) -> int:
    """What a bug in the user's own code looks like."""
    raise ValueError(f"cannot parse {sample!r}: label out of range")


def wait_for_tokenizer() -> None:
    """A rank that blocks in Python for good."""
    threading.Event().wait()


def hold_the_interpreter_lock() -> None:
    """Sleep in C with the lock held: no other thread of this process runs, a side thread neither."""
    ctypes.PyDLL(None).sleep(100_000)


def sit_in_the_kernel() -> None:
    """Sit in uninterruptible sleep (state D).

    The parent of a vfork waits there until the child runs its program; this child first opens a FIFO nobody writes.
    """
    fifo = os.path.join(tempfile.mkdtemp(), "never-written")
    os.mkfifo(fifo)
    os.posix_spawn("/bin/true", ["true"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)])
