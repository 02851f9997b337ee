"""A mirror of Blender's downloads on this machine: the bpy wheels, laid out and packed as the official builds are.

They are Blender itself, but for its window: the same render engines, the same Python. A launcher stands in for the program `blender`.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ami.check.commands import expect, run
from ami.recipe import series_of

PLATFORM = "linux-x64"
#: The lock of the older one.
OLDER = Path(__file__).resolve().parent / "requirements.txt"
#: Parts of a wheel's environment that Blender does not need.
_LEFT_OUT = (
    "pip*",
    "setuptools*",
    "pkg_resources",
    "_distutils_hack*",
    "distutils-precedence.pth",
    "Cython*",
    "cython*",
    "pyximport*",
    "__pycache__",
)

LAUNCHER = """#!/bin/bash
# Stands in for the program `blender`: runs a script in the background, with factory settings, in a Python that has bpy.
here="$(dirname "$(readlink -f "$0")")"
script=
while [ $# -gt 0 ]; do
    case "$1" in
        --version) echo "Blender VERSION LTS"; exit 0 ;;
        -b | --factory-startup | --disable-autoexec) ;;
        --python-exit-code | --threads) shift ;;
        --python) script="$2"; shift ;;
        --) shift; break ;;
        *) echo "unknown argument: $1" >&2; exit 1 ;;
    esac
    shift
done
exec /usr/bin/python3 -I -c 'import runpy, sys
sys.path.insert(0, sys.argv.pop(1))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$here/lib" "$script" "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A build on the mirror."""

    version: str
    sha256: str

    @property
    def series(self) -> str:
        return series_of(self.version)


def packed_blenders(environment: Path, cache: Path) -> tuple[Packed, ...]:
    """Have two Blenders on the mirror in `cache`: an older one, from the Python Package Index, and the one of a Python environment.

    Repeat:  at once, the second time
    """
    mirror = cache / "mirror"
    present = next((environment / "lib").glob("python3*/site-packages"))
    version = _required_version()
    older = cache / f"bpy-{version}"
    if not (mirror / f"Blender{series_of(version)}" / f"blender-{version}.sha256").is_file():
        shutil.rmtree(older, ignore_errors=True)
        pip = (environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-cache-dir")
        run(*pip, "--no-deps", "--require-hashes", "--target", older, "--requirement", OLDER)
        packed_blender(older, mirror, shared=present)
        shutil.rmtree(older)
    return _packed(version, mirror), packed_blender(present, mirror)


def _required_version() -> str:
    return OLDER.read_text().partition("bpy==")[2].split()[0]


def packed_blender(packages: Path, mirror: Path, *, shared: Path | None = None) -> Packed:
    """Have the archive of one version on the mirror, packed before or now.

    Shape:   `packages`: a folder of Python packages with bpy; `shared`: another with what bpy needs besides
    """
    version = _version(packages)
    folder = mirror / f"Blender{series_of(version)}"
    name = f"blender-{version}-{PLATFORM}"
    archive, sums = folder / f"{name}.tar.xz", folder / f"blender-{version}.sha256"
    if not sums.is_file():
        draft = folder / name
        shutil.rmtree(draft, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        for source in filter(None, (shared, packages)):
            shutil.rmtree(draft / "lib" / "bpy", ignore_errors=True)  # of another version
            shutil.copytree(source, draft / "lib", ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True, symlinks=True)
        launcher = draft / "blender"
        launcher.write_text(LAUNCHER.replace("VERSION", version))
        launcher.chmod(0o755)
        run("tar", "--create", "--directory", folder, "--use-compress-program", "xz -0 --threads=0", "--file", archive, name)
        shutil.rmtree(draft)
        sums.write_text(f"{_sha256(archive)}  {archive.name}\n")
    return _packed(version, mirror)


def _packed(version: str, mirror: Path) -> Packed:
    return Packed(version=version, sha256=(mirror / f"Blender{series_of(version)}" / f"blender-{version}.sha256").read_text().split()[0])


def _version(packages: Path) -> str:
    found = sorted(packages.glob("bpy-*.dist-info"))
    expect(len(found) == 1, f"{packages} has not one bpy, but {len(found)}")
    return found[0].name.removeprefix("bpy-").removesuffix(".dist-info")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def serving(mirror: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Serve the mirror. Returns: its address, and the paths that were asked for so far"""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(mirror))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
