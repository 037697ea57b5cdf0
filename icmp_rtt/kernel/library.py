# SPDX-License-Identifier: GPL-2.0-only
"""The libbpf library, found and opened: the one given, the one carried, or the system's."""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from errno import ENOMEM
from typing import Any

from icmp_rtt import carried
from icmp_rtt.errors import RequirementError, shortage

__all__ = ("function_of", "open_library", "version_of")

_OLDEST = (1, 1)
_REMEDY = "apt install libbpf1, or name a newer one with --libbpf PATH"
_ELF_HEADER = struct.Struct("=4sB35xQ10xHH2x")  # of 64 bits: magic, class, and where sections lie


def open_library(path: str | None) -> ctypes.CDLL:
    """The library at ``path``; without one that which came with this package, or the system's.

    Raises:
        RequirementError: there is none, or it cannot be loaded.
    """
    library = _open_carried() if path is None else None
    if library is not None:
        return library
    name = path or carried.LIBBPF
    if path is not None and os.path.exists(path):
        name = os.path.abspath(path)  # without a slash it would be looked for elsewhere
        _check_whole(name)
    try:
        return _loaded(name)
    except OSError as error:
        if path is None and str(error).startswith(f"{name}: cannot open"):
            raise RequirementError(f"libbpf missing{_older_one()}: {_REMEDY}") from error
        if "failed to map" in str(error):
            raise RequirementError(f"cannot load libbpf: {error}: {shortage(ENOMEM)}") from error
        raise RequirementError(f"cannot load libbpf: {error}: {_REMEDY}") from error


def _loaded(name: str) -> ctypes.CDLL:
    """The library of this name, or in this file.

    Raises:
        OSError: there is none, in the loader's words; where a name is not UTF-8 Python leaves
            them out, or newer ones raise an error of another sort.
    """
    try:
        return ctypes.CDLL(name, use_errno=True)
    except UnicodeDecodeError as error:
        raise OSError(os.fsdecode(error.object)) from error
    except OSError as error:
        if str(error):
            raise
        raise OSError(f"{name}: cannot be loaded") from error


def _check_whole(path: str) -> None:
    """Refuse a file that the loader would wait for, or touch beyond its end (SIGBUS)."""
    with contextlib.suppress(OSError, struct.error):  # the loader has the words for these
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise RequirementError(f"cannot load libbpf: {path} is no file: {_REMEDY}")
        with open(path, "rb") as file:
            header = _ELF_HEADER.unpack(file.read(_ELF_HEADER.size))
        magic, bits, sections, size, count = header
        if (magic, bits) == (b"\x7fELF", 2) and sections + size * count > found.st_size:
            raise RequirementError(f"cannot load libbpf: {path} is cut off: {_REMEDY}")


def _open_carried() -> ctypes.CDLL | None:
    """The one that came with this package, if one did.

    From memory where it cannot be mapped: in an archive, on a file system mounted noexec.
    """
    try:
        return _loaded(carried.on_disk(carried.LIBBPF))
    except OSError:
        data = carried.read(carried.LIBBPF)
        if data is None:
            return None
    try:
        return _loaded(carried.in_memory(carried.LIBBPF, data))
    except OSError as error:
        raise RequirementError(
            f"cannot load the libbpf that came with this package: {error}: {_REMEDY}"
        ) from error


def _older_one() -> str:
    try:
        ctypes.CDLL("libbpf.so.0")
    except OSError:
        return ""
    return " (only libbpf.so.0 is here, which is too old)"


def version_of(library: ctypes.CDLL) -> tuple[int, int]:
    """Major and minor number, to be asked for before anything else.

    Raises:
        RequirementError: it is not libbpf, or too old.
    """
    version = _number(library, "libbpf_major_version"), _number(library, "libbpf_minor_version")
    if version < _OLDEST:
        raise RequirementError(
            f"libbpf {version[0]}.{version[1]} is too old: "
            f"{_OLDEST[0]}.{_OLDEST[1]} is needed: {_REMEDY}"
        )
    return version


def _number(library: ctypes.CDLL, name: str) -> int:
    function = function_of(library, name)
    function.restype, function.argtypes = ctypes.c_uint32, ()
    number: int = function()
    return number


def function_of(library: ctypes.CDLL, name: str) -> Any:
    """Its function of this name, undeclared.

    Raises:
        RequirementError: it has none.
    """
    try:
        return getattr(library, name)
    except AttributeError as error:
        raise RequirementError(
            f"{library._name} is not libbpf, or is too old: it has no {name}: {_REMEDY}"
        ) from error
