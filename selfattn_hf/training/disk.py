"""Files that are whole or not there, and what is said where the disk is full."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from .processes import is_first


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """For as long as something is written at `path`.

    Raises:
        OSError: naming path and free space, if it cannot be written. torch, safetensors and tokenizers have errors of
            their own for a full disk, which are no OSError.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError | RuntimeError | SafetensorError) and type(error) is not Exception:
            raise
        free = shutil.disk_usage(nearest_folder(path)).free
        raise OSError(
            f"{path} cannot be written ({error}); {free / 2**20:,.1f} MiB are free there. What was written before is "
            "whole: make room, and the same command goes on."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: naming path and free space.
    """
    aside = path.with_name(f".{path.name}.part")
    with writing(path):
        with aside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def nearest_folder(path: Path) -> Path:
    """`path` itself, or the nearest folder above it that exists."""
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


@contextlib.contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder; it is free again when this one ends, however it ends.

    Of a run of several processes the first speaks for all.

    Raises:
        ValueError: if another process is at work there.
    """
    if not is_first():
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process is training into output_dir={folder}. Wait for it or stop it, or set --output_dir to "
                "another folder."
            ) from error
        yield
    finally:
        os.close(descriptor)
