"""A C++ file becomes a library, once on every machine: by the compiler that is there, or not at all."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).with_name("compiled_step.cpp")
SWITCH = "SELFATTN_COMPILED"  # 0: never
COMPILERS = ("g++", "c++", "clang++")
# Sums may be taken in any order, so that several numbers are added at once; infinities stay what they are.
FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-shared", "-fPIC", "-fno-math-errno", "-fno-trapping-math",
    "-fno-signed-zeros", "-fassociative-math",
)  # fmt: skip
LONGEST_BUILD = 120  # seconds


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """The library of `compiled_step.cpp`, built if need be; None where there is no compiler or it is switched off.

    It is kept in the user's cache folder under a name that the source, the compiler and the processor make.
    """
    if os.environ.get(SWITCH) == "0":
        return None
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None or sys.platform == "win32":
        return None
    try:
        return ctypes.CDLL(str(_built(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        logger.warning(
            f"{SOURCE.name} could not be built by {compiler} ({said[-1] if said else type(error).__name__}), so "
            f"decoding on a CPU stays with torch's own operations, which are slower. {SWITCH}=0 leaves it at that."
        )
        return None


def _built(compiler: str) -> Path:
    commands = [[compiler, *FLAGS, *_threads(), str(SOURCE)], [compiler, *FLAGS, str(SOURCE)]]
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    known = "\n".join([SOURCE.read_text(encoding="utf-8"), version, _processor(), *commands[0]])
    path = _folder() / f"step-{hashlib.sha256(known.encode()).hexdigest()[:24]}.so"
    if path.exists():
        return path
    logger.info(f"building {SOURCE.name} by {compiler}, once on this machine, into {path}")
    for number, command in enumerate(commands):
        # Built beside its place and moved there whole, so that nobody meets half a file.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder) / path.name
            try:
                subprocess.run([*command, "-o", str(made)], capture_output=True, text=True, check=True,
                               timeout=LONGEST_BUILD)  # fmt: skip
            except subprocess.CalledProcessError:
                if number + 1 == len(commands):
                    raise
                continue  # once more without threads
            made.replace(path)
            break
    return path


def _threads() -> list[str]:
    """What makes loops run on torch's own threads: two pools of threads would wait for each other."""
    import torch

    shipped = Path(torch.__file__).parent / "lib" / "libgomp.so.1"
    return ["-fopenmp", *([f"-L{shipped.parent}", f"-Wl,-rpath,{shipped.parent}"] if shipped.exists() else [])]


def _folder() -> Path:
    """The cache folder of the user, or one for this process where that cannot be written."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "selfattn_hf"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):  # the latter: nobody knows where home is
        pass
    return Path(tempfile.mkdtemp(prefix="selfattn_hf-"))


def _processor() -> str:
    """What the code is made for: another processor, met through a shared home folder, has a library of its own."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))}))
