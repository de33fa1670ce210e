"""Writing files so that a reader never sees half of one; their hashes."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from halut.errors import HalutError

__all__ = ["atomic_write", "file_hash", "locked", "write_text"]

log = logging.getLogger(__name__)


_ATTEMPTS = 100
"""Times in a row that a folder may vanish while it is made; in /proc none can be made at all."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


@contextmanager
def _full_disk_is_the_users(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise HalutError(f"output must be writable: {error.strerror} ({path})") from None


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that takes the place of `path` when the block succeeds.

    The temporary file is empty, lies in the same folder and has the suffix of `path`. When the
    block raises, it is removed and `path` is left as it was. Missing parent folders are made.
    Something that is neither a file nor a folder (a pipe, ``/dev/null``) is written directly.

    Parameters
    ----------
    path : path-like
        The file to write or to replace.

    Yields
    ------
    pathlib.Path
        Where to write to.

    Raises
    ------
    HalutError
        When `path` is a folder or its place cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     target = Path(folder) / "a" / "b.txt"
    ...     with atomic_write(target) as temporary:
    ...         _ = temporary.write_text("all of it")
    ...     target.read_text()
    'all of it'
    """
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise HalutError(f"output must be a file, not a folder ({path})")
    if target.exists() and not target.is_file():
        with _full_disk_is_the_users(path):
            yield target
        return
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # 0o666 is narrowed by the umask, as for any file that the user creates.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except OSError as error:
        raise HalutError(f"output must be writable: {error.strerror} ({path})") from None
    try:
        with _full_disk_is_the_users(path):
            yield temporary
        try:
            os.replace(temporary, target)
        except OSError as error:
            raise HalutError(f"output must be writable: {error.strerror} ({path})") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file (UTF-8) by `atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def file_hash(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, 64 hexadecimal digits.

    Examples
    --------
    >>> file_hash(os.devnull)[:12]
    'e3b0c44298fc'
    """
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


@contextmanager
def locked(
    folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    wait: bool = True,
) -> Iterator[None]:
    """Keep other processes out of a folder in which several files belong together.

    The folder is made when it is missing. While another process holds it, this one logs one line
    and waits; whatever ends that process frees the folder. Where the file system has no locks,
    nothing is kept out.

    Parameters
    ----------
    folder : path-like
    output : path-like, optional
        What the user asked for, to be named in an error; by default the folder.
    wait : bool, default True
        Wait while another process holds the folder, or refuse it.

    Raises
    ------
    HalutError
        When the folder cannot be made, or is held and `wait` is False.
    """
    attempts = 0
    while True:
        try:
            os.makedirs(folder, exist_ok=True)
            held = os.open(folder, os.O_RDONLY)
        except OSError as error:
            attempts += 1
            if isinstance(error, FileNotFoundError) and attempts < _ATTEMPTS:
                continue  # removed in between by who held it
            raise HalutError(
                f"output must be writable: {error.strerror} ({output or folder})"
            ) from None
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise HalutError(
                        f"output must not be used by another run, but one works in it "
                        f"({output or folder})"
                    ) from None
                log.warning("waiting for another process that works in %s", folder)
                fcntl.flock(held, fcntl.LOCK_EX)
            except OSError:
                log.debug("no locks in %s", folder)
            # Who held it may have removed it.
            if os.path.isdir(folder) and os.path.samestat(os.fstat(held), os.stat(folder)):
                yield
                return
        finally:
            os.close(held)
