"""The datasets library writes what it reads and makes to its cache; where that disk is full, it is named."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, none left of one's share, a file too large


@contextlib.contextmanager
def caching() -> Iterator[None]:
    """For as long as data are read or made; also a decorator, `@caching()`.

    Raises:
        OSError: naming the cache and the free space, if it cannot be written. The library's own errors may be about
            what came of that.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        cache = Path(datasets.config.HF_DATASETS_CACHE)
        free = shutil.disk_usage(next(folder for folder in (cache, *cache.parents) if folder.exists())).free
        raise OSError(
            f"{cache}, the cache of the datasets library, cannot be written ({error}); {free / 2**20:,.1f} MiB are "
            "free there. Make room, or set the environment variable HF_DATASETS_CACHE to a folder on another disk."
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether a full disk is the reason for an error, or for the one before it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
