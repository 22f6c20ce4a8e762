"""Sets up what a make target needs, once: the environment, its packages, the Debian packages of the tests.

    python3 tools/setup.py run            .venv with requirements.lock and the project itself
    python3 tools/setup.py test           beside it requirements-dev.lock, torch where it can be had, Debian packages

Standard library only, and readable by an old Python too, so that it can say which one is needed.
"""

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rows import name_of, rows

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
PROJECTS = (".", "./ftagent")
SUPPORTED = ((3, 11), (3, 12), (3, 13))

# Wheels only: setting up runs no code of a package.
PIP_INSTALL = (str(PYTHON), "-m", "pip", "install", "-q", "--disable-pip-version-check")
FROM_LOCK = (*PIP_INSTALL, "--no-deps", "--require-hashes", "--only-binary", ":all:", "-r")
OF_CUDA = re.compile(r"(nvidia|cuda)-|triton$")


class SetupError(Exception):
    """What a person has to do first."""


def main(words: "list[str]") -> int:
    """Set up for `run` or `test`; the exit status."""
    try:
        use_supported_python()
        make_venv()
        once("base", ("requirements.lock",), lambda: pip(*FROM_LOCK, "requirements.lock"))
        once("project", ("pyproject.toml", "ftagent/pyproject.toml"), install_project)
        if words == ["test"]:
            once("dev", ("requirements-dev.lock",), lambda: pip(*FROM_LOCK, "requirements-dev.lock"))
            if sys.version_info[:2] == (3, 11) and (sys.platform, platform.machine()) == ("linux", "x86_64"):
                once("train", ("requirements-train.lock",), install_torch)
            install_debian_packages()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    return 0


def use_supported_python() -> None:
    """Go on under a supported Python, this one if it is."""
    if sys.version_info[:2] in SUPPORTED:
        return
    for major, minor in SUPPORTED[::-1]:
        found = shutil.which(f"python{major}.{minor}")
        if found:
            os.execv(found, [found, *sys.argv])
    raise SetupError(f"Python 3.11, 3.12 or 3.13 is needed; this is {platform.python_version()}")


def make_venv() -> None:
    """Make .venv, anew if it belongs to another Python."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if PYTHON.exists():
        asked = "import sys; print('%d.%d' % sys.version_info[:2])"
        if subprocess.run([str(PYTHON), "-c", asked], stdout=subprocess.PIPE).stdout.decode().strip() == version:
            return
        shutil.rmtree(str(VENV))
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        raise SetupError(f"python{version} cannot make environments: apt-get install python{version}-venv")
    say(f"making .venv with Python {version}")
    if subprocess.run([sys.executable, "-m", "venv", str(VENV)]).returncode:
        shutil.rmtree(str(VENV), ignore_errors=True)
        raise SetupError(f"no environment could be made; on Debian and Ubuntu: apt-get install python{version}-venv")


def once(what: str, files: "tuple[str, ...]", act: "Callable[[], None]") -> None:
    """Act unless it was done before with the same content of these files."""
    stamp = VENV / f".holdfast-{what}"
    seen = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in files)).hexdigest()
    if stamp.exists() and stamp.read_text() == seen:
        return
    say(f"installing {', '.join(files)}")
    act()
    stamp.write_text(seen)


def install_project() -> None:
    """The project itself, editable, with the build tool of the lock."""
    options = [word for project in PROJECTS for word in ("-e", project)]
    pip(*PIP_INSTALL, "--no-deps", "--no-build-isolation", *options)


def install_torch() -> None:
    """torch: its CPU build where one is at hand, else the CUDA build with its libraries.

    Where neither can be had the tests that train a model are skipped.
    """
    kept = rows((ROOT / "requirements-train.lock").read_text())
    # of two builds with a known hash pip takes the index's; the CPU build, if there is one, has to be asked for by name
    plain = [row.replace("torch==2.13.0", "torch==2.13.0+cpu") for row in kept if not OF_CUDA.match(name_of(row))]
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as lock:
        lock.write("\n".join(plain) + "\n")
        lock.flush()
        done = subprocess.run([*FROM_LOCK, lock.name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode == 0:
        return
    try:
        pip(*FROM_LOCK, "requirements-train.lock")
    except SetupError:
        say("torch cannot be installed here: tests that train a model will be skipped")


def install_debian_packages() -> None:
    """What tools/debian-packages.txt names and the machine lacks, with sudo where this is not root."""
    named = [line.strip() for line in (ROOT / "tools" / "debian-packages.txt").read_text().splitlines()]
    missing = [name for name in named if name and not name.startswith("#") and not is_installed(name)]
    if not missing:
        return
    wanted = f"the tests need these packages: apt-get install {' '.join(missing)}"
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if not shutil.which("apt-get") or (root and not shutil.which("sudo")):
        raise SetupError(wanted)
    say(f"installing {' '.join(missing)}")
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *missing]):
        if subprocess.run([*root, "apt-get", *words], env=env, stdout=subprocess.DEVNULL).returncode:
            raise SetupError(wanted)


def is_installed(package: str) -> bool:
    """Whether dpkg knows a package as installed; where there is no dpkg nothing is."""
    if not shutil.which("dpkg-query"):
        return False
    asked = ["dpkg-query", "-W", "-f", "${Status}", package]
    said = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    return b"install ok installed" in said


def pip(*words: str) -> None:
    """Run pip in the project's folder."""
    if subprocess.run(words, cwd=str(ROOT)).returncode:
        raise SetupError("pip could not install; what it said stands above")


def say(what: str) -> None:
    """One line of progress."""
    print(f"setup: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
