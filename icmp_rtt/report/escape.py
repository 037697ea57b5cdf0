# SPDX-License-Identifier: GPL-2.0-only
"""Bytes from outside, such as process names, made safe for a terminal."""

from __future__ import annotations

from functools import lru_cache

__all__ = ("decoded", "printable", "printable_text")

_BACKSLASH = rb"\x5c"


@lru_cache(maxsize=1024)
def printable(raw: bytes) -> str:
    r"""Text for any bytes: what is not printable UTF-8 reads ``\xNN``, and so does a backslash."""
    return printable_text(raw.replace(b"\\", _BACKSLASH).decode("utf-8", "surrogateescape"))


def printable_text(text: str) -> str:
    r"""Text of our own, or from arguments and paths: what is not printable reads ``\xNN``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def decoded(raw: bytes) -> str:
    r"""Text for any bytes that nothing printable is lost from: invalid UTF-8 reads ``\xNN``.

    Control characters stay: only for output that escapes them itself.
    """
    return raw.decode("utf-8", "backslashreplace")


def _escaped(char: str) -> str:
    raw = char.encode("utf-8", "surrogateescape")
    return "".join(f"\\x{byte:02x}" for byte in raw)
