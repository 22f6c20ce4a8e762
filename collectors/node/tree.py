"""A machine's /sys, /proc and /dev, or copies of them in a folder: bounded reads that never leave the folder."""

import contextlib
import errno
import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path

_MOST_BYTES = 1 << 20
_MOST_NAMES = 65_536

# Not blocking: what looks like an attribute may be a pipe in a copy.
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

# What tells a folder for a copy of one of the three, whether or not it has their name.
_MARKS = {
    "sys": ("class", "bus", "block", "devices/system", "devices/pci0000:00"),
    "proc": ("meminfo", "mounts", "stat", "uptime", "self/mounts", "mdstat", "driver/nvidia", "pressure"),
    "dev": ("nvidiactl", "nvidia0", "kmsg", "infiniband"),
}


class Tree:
    """Files below `root`. live: the root is this machine's own, so that numbers of now may be asked of the kernel too.

    Whatever cannot be read is absent; `denied` counts what was there and refused.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = str(Path(root).absolute())
        self.live = self.root == "/"
        self._inside = self.root.rstrip("/") + "/"
        self._real = str(Path(self.root).resolve()).rstrip("/") + "/"
        self._folders: dict[str, bool] = {}
        self.denied = 0
        self.read = 0
        self.sys, self.proc, self.dev = (self._find(name) for name in _MARKS)

    def _find(self, name: str) -> str:
        """Where a part lies: under its name, or the root itself where that looks like it; "" if nowhere."""
        if Path(self.root, name).is_dir():
            return f"{self._inside}{name}"
        if not self.live and any(Path(self.root, mark).exists() for mark in _MARKS[name]):
            return self.root
        return ""

    def text(self, path: str) -> str | None:
        """A small file's content without its line end, None where there is none to be had."""
        if not path:
            return None
        file = self._open(path)
        if file is None:
            return None
        try:
            parts = []
            left = _MOST_BYTES
            while left > 0 and (part := os.read(file, min(left, 65_536))):
                parts.append(part)
                left -= len(part)
        except OSError:  # an attribute may refuse: a port without a link has no rate
            return None
        finally:
            os.close(file)
        self.read += 1
        return b"".join(parts).decode("utf-8", "replace").strip()

    def _open(self, path: str) -> int | None:
        """A descriptor; a link in a copy is only followed where it stays inside."""
        if not self.live and not self._folder_is_inside(path.rpartition("/")[0]):
            return None
        try:
            return os.open(path, _FLAGS if self.live else _FLAGS | os.O_NOFOLLOW)
        except PermissionError:
            self.denied += 1
        except OSError as error:
            if error.errno == errno.ELOOP and (real := self.real(path)):
                with contextlib.suppress(OSError):
                    return os.open(real, _FLAGS)
        except ValueError:
            pass
        return None

    def _folder_is_inside(self, folder: str) -> bool:
        """Inside is what is no link in a folder that is inside, and a link that leads inside."""
        known = self._folders.get(folder)
        if known is None:
            if len(self._folders) >= _MOST_NAMES:
                self._folders.clear()
            known = self._folders[folder] = self._is_inside(folder)
        return known

    def _is_inside(self, path: str) -> bool:
        if len(path) <= len(self._inside):
            return f"{path}/" == self._inside or f"{self.real(path)}/".startswith(self._real)
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            return False
        above = path.rpartition("/")[0]
        return f"{self.real(path)}/".startswith(self._real) if is_link else self._folder_is_inside(above)

    def number(self, path: str) -> float | None:
        """A file that holds one number, decimal or 0x."""
        return number_of(self.text(path))

    def names(self, path: str) -> list[str]:
        """What a folder holds, in order; nothing where it is none."""
        if not path or not self._may(path):
            return []
        try:
            with os.scandir(path) as entries:
                found = [entry.name for _, entry in zip(range(_MOST_NAMES), entries, strict=False)]
        except (OSError, ValueError):
            return []
        return sorted(found, key=natural)

    def is_dir(self, path: str) -> bool:
        """Whether there is such a folder."""
        if not path or not self._may(path):
            return False
        try:
            return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116  # thousands of them in a look
        except (OSError, ValueError):
            return False

    def real(self, path: str) -> str:
        """Where a link leads, "" where it leads out of the tree or nowhere."""
        try:
            found = str(Path(path).resolve(strict=True))
        except (OSError, RuntimeError, ValueError):
            return ""
        return found if self.live or f"{found}/".startswith(self._real) else ""

    def shown(self, path: str) -> str:
        """A path as it is printed: below the root of a copy, whole on a live machine."""
        return path if self.live else path.removeprefix(self._inside)

    def _may(self, path: str) -> bool:
        """A copy may hold links that lead out of it: they are not followed."""
        return self.live or self._folder_is_inside(path)


def number_of(text: str | None) -> float | None:
    """The number a short text is, None if it is none."""
    if not text or len(text) > 64:
        return None
    try:
        value = float(int(text, 16)) if text[:2] in ("0x", "0X") else float(text)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def natural(name: str) -> tuple[int, str, int, str]:
    """A key that puts mlx5_2 before mlx5_10."""
    digits = len(name) - len(name.rstrip("0123456789"))
    stem = name[: len(name) - digits]
    return (0 if stem else 1, stem, int(name[-digits:][-18:]) if digits else -1, name)


def walk(root: Path, *, most: int, but: frozenset[str]) -> Iterator[Path]:
    """Regular files below a folder, in order, not through links, and not through the folders in `but` at its top."""
    left = most
    stack = [root]
    while stack and left > 0:
        folder = stack.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: natural(entry.name))
        except OSError:
            continue
        for entry in entries:
            if entry.is_symlink():
                continue
            if entry.is_dir() and (folder != root or entry.name not in but):
                stack.append(Path(entry.path))
            elif entry.is_file() and left > 0:
                left -= 1
                yield Path(entry.path)
