"""Where things stand in a run folder, and how a file is put there so that a crash never leaves half of it."""

import json
import os
import re

_MOST_BYTES = 4 << 20


class Layout:
    """The paths of one run folder; `docs/ftagent.md` lists them."""

    def __init__(self, root):
        # type: (str) -> None
        self.root = os.path.abspath(root)
        self.attempts = os.path.join(self.root, "attempts")
        self.logs = os.path.join(self.root, "logs")
        self.collections = os.path.join(self.root, "collect")
        self.spool = os.path.join(self.root, "spool")
        self.lock = os.path.join(self.root, "agent.lock")
        self.settings = os.path.join(self.root, "agent.json")
        self.orders = os.path.join(self.root, "orders.json")
        self.progress = os.path.join(self.root, "progress.json")

    def attempt(self, number):
        # type: (int) -> str
        return os.path.join(self.attempts, str(number))

    def ranks(self, number):
        # type: (int) -> str
        return os.path.join(self.attempt(number), "ranks")

    def log_folder(self, number):
        # type: (int) -> str
        return os.path.join(self.logs, "attempt-%d" % number)

    def collection(self, order):
        # type: (str) -> str
        return os.path.join(self.collections, re.sub(r"[^A-Za-z0-9._-]", "_", order))

    def last_attempt(self):
        # type: () -> int
        """The newest attempt's number, -1 before the first."""
        try:
            return max((int(name) for name in os.listdir(self.attempts) if name.isdigit()), default=-1)
        except OSError:
            return -1


def make_folder(path):
    # type: (str) -> None
    os.makedirs(path, mode=0o700, exist_ok=True)


def write_json(path, value):
    # type: (str, object) -> None
    """Replace a file whole."""
    write_bytes(path, json.dumps(value).encode())


def write_bytes(path, data):
    # type: (str, bytes) -> None
    fresh = "%s.%d.new" % (path, os.getpid())
    # for the owner alone: the job's environment is among what is kept, and it may hold secrets
    with open(os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
    os.replace(fresh, path)


def read_json(path):
    # type: (str) -> object
    """A file's value, None if it is not there, too large or not JSON."""
    try:
        with open(path, "rb") as file:
            return json.loads(file.read(_MOST_BYTES).decode("utf-8"))
    except (OSError, ValueError):
        return None


def read_dict(path):
    # type: (str) -> dict
    found = read_json(path)
    return found if isinstance(found, dict) else {}
