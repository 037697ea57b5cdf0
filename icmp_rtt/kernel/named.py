# SPDX-License-Identifier: GPL-2.0-only
"""What a BPF object is made of, by name: its programs, enumerators, members of structs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from icmp_rtt.errors import misfit

__all__ = ("Named",)

_Part = TypeVar("_Part")


class Named(dict[str, _Part]):
    """Parts of an object by name; asking for another one is an ObjectError.

    Args:
        lack: what to say in front of the name of one that is not there.
        parts: names and what they are of.
    """

    def __init__(self, lack: str, parts: Iterable[tuple[str, _Part]] = ()) -> None:
        super().__init__(parts)
        self._lack = lack

    def __missing__(self, name: str) -> _Part:
        raise misfit(f"{self._lack} {name}")
