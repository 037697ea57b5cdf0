# SPDX-License-Identifier: GPL-2.0-only
"""Files that are read whole: regular ones, of a bounded length. Knows nothing of what they hold."""

from __future__ import annotations

import os
import stat

from icmp_rtt.errors import ObjectError

__all__ = ("read_file", "read_object")

_MAX_OBJECT = 4 << 20  # bytes; ours is below 2 MiB


def read_object(path: str) -> bytes:
    """The bytes of the BPF object in file ``path``, unseen.

    Raises:
        ObjectError: it cannot be read, or is too long for one; see ``read_file``.
    """
    return read_file(path, "BPF object", _MAX_OBJECT)


def read_file(path: str, what: str, limit: int, count: int = -1) -> bytes:
    """All bytes, or the first ``count``, of the regular file ``path``, which holds a ``what``.

    Raises:
        ObjectError: it is missing, unreadable, no regular file, or longer than
            ``limit`` bytes.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ObjectError(f"{path}: not a regular file: a {what} is expected")
        if status.st_size > limit:
            raise ObjectError(f"{path}: {status.st_size} bytes are too many for a {what}")
        with open(path, "rb") as file:
            return file.read(status.st_size if count < 0 else count)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ObjectError(f"cannot read {what} {path}: {reason}") from error
