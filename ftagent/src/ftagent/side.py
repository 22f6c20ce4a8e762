"""The side thread of a rank: answers the agent's questions while the main thread waits in a collective.

It never imports the framework; what is not loaded yet is not asked. A rank that holds the interpreter lock, or is
stopped, does not answer, and that is evidence too.
"""

import io
import json
import os
import socket
import sys
import threading

_POLL_S = 0.5
_ASK_BYTES = 4096
_MOST_FRAMES = 512


def start(reporter):
    # type: (object) -> None
    """Listen in the reporter's folder; a rank that cannot listen still reports."""
    try:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with short_path(reporter.folder, "rank%d.sock" % reporter.rank) as path:
            if os.path.lexists(path):
                os.unlink(path)
            server.bind(path)
        server.listen(4)
        server.settimeout(_POLL_S)
        threading.Thread(target=_serve, args=(server, reporter), name="ftagent", daemon=True).start()
    except (OSError, RuntimeError) as error:  # RuntimeError: no more threads can be started
        sys.stderr.write("ftagent: no questions are answered from here: %s\n" % error)


class short_path:
    """A path to a file in a folder, short enough for a unix socket (108 bytes), through the folder's descriptor."""

    def __init__(self, folder, name):
        # type: (str, str) -> None
        self.folder, self.name = folder, name

    def __enter__(self):
        # type: () -> str
        self._fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        return "/proc/self/fd/%d/%s" % (self._fd, self.name)

    def __exit__(self, *error):
        # type: (object) -> None
        os.close(self._fd)


def _serve(server, reporter):
    # type: (socket.socket, object) -> None
    while reporter.alive:
        for timer in reporter.device_timers():
            if timer is not None:
                timer.read()
        try:
            asked, _ = server.accept()
        except socket.timeout:
            continue
        except OSError:
            return
        try:
            asked.settimeout(5.0)
            _answer(asked)
        except (OSError, ValueError, RecursionError):
            pass  # whoever asked has gone, or asked nonsense
        finally:
            asked.close()


def _answer(asked):
    # type: (socket.socket) -> None
    question = json.loads(asked.recv(_ASK_BYTES).decode("utf-8"))
    what = question.get("ask") if isinstance(question, dict) else None
    give = _ANSWERS.get(what)
    if give is None:
        head, data = {"error": "no such question"}, b""
    else:
        try:
            head, data = give(question)
        except (RuntimeError, AttributeError, TypeError, ValueError, KeyError, ImportError) as error:
            head, data = {"error": "%s: %s" % (type(error).__name__, error)}, b""
    head["bytes"] = len(data)
    asked.sendall(json.dumps(head).encode() + b"\n" + data)


def _flight_recorder(question):
    # type: (dict) -> tuple
    """The recorder's pickle as the framework makes it, without frames unless asked: their first time takes seconds."""
    torch = sys.modules.get("torch")
    native = getattr(getattr(torch, "_C", None), "_distributed_c10d", None)
    dumps = [getattr(native, name, None) for name in ("_dump_nccl_trace", "_dump_fr_trace")]
    backends = {group["backend"] for group in _groups_of_torch().values()}
    # the first is NCCL's own; where only gloo works it has nothing to say
    order = dumps if "nccl" in backends else dumps[::-1]
    dump = next((one for one in order if one is not None), None)
    if dump is None:
        return {"error": "no flight recorder in this process"}, b""
    return {}, dump(True, bool(question.get("frames")), False)


def _groups(question):
    # type: (dict) -> tuple
    groups = _groups_of_torch()
    return {}, json.dumps({"groups": groups, "backend": next((g["backend"] for g in groups.values()), "")}).encode()


def _groups_of_torch():
    # type: () -> dict
    """Process groups by name; local_id: this process's own number for it, in order of creation, as its dumps use it."""
    c10d = sys.modules.get("torch.distributed.distributed_c10d")
    world = getattr(c10d, "_world", None)
    if world is None:
        return {}
    found = {}
    for number, (group, name) in enumerate(list(world.pg_names.items())):
        members = sorted(world.pg_group_ranks.get(group, {}).items(), key=lambda pair: pair[1])
        backend = world.pg_map.get(group, ("",))[0]
        found[str(name)] = {
            "local_id": str(number),
            "desc": str(getattr(group, "group_desc", "") or ""),
            "ranks": [rank for rank, _ in members],
            "backend": str(backend),
        }
    return found


def _stacks(question):
    # type: (dict) -> tuple
    """Every thread's stack in the words of faulthandler, the innermost frame first.

    Walked by hand: the standard library reads the source files too, and their storage may be what hangs.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    out = io.StringIO()
    for ident, innermost in sys._current_frames().items():
        out.write('Thread 0x%016x "%s" (most recent call first):\n' % (ident, names.get(ident, "?")))
        frame, left = innermost, _MOST_FRAMES
        while frame is not None and left:
            code = frame.f_code
            out.write('  File "%s", line %d in %s\n' % (code.co_filename, frame.f_lineno or 0, code.co_name))
            frame, left = frame.f_back, left - 1
        out.write("\n")
    return {}, out.getvalue().encode("utf-8", "replace")


_ANSWERS = {"flight_recorder": _flight_recorder, "groups": _groups, "stacks": _stacks}


def ask(folder, rank, question, seconds):
    # type: (str, int, dict, float) -> tuple
    """The agent's end: (answer's head, data) from a rank's side thread.

    raises OSError (socket.timeout among it): it does not answer in time; ValueError: it answers nonsense
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.settimeout(seconds)
        with short_path(folder, "rank%d.sock" % rank) as path:
            line.connect(path)
        line.sendall(json.dumps(question).encode())
        answer = line.makefile("rb")
        head = json.loads(answer.readline(65536).decode("utf-8"))
        if not isinstance(head, dict):
            raise ValueError("not an answer")
        size = head.get("bytes", 0)
        if not isinstance(size, int) or not 0 <= size <= 256 << 20:
            raise ValueError("an answer of %r bytes" % (size,))
        data = answer.read(size)
        if len(data) != size:
            raise ValueError("an answer cut short")
        return head, data
