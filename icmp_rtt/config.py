# SPDX-License-Identifier: GPL-2.0-only
"""The object's configuration: what of the options its members say, and how they become bytes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Union

from icmp_rtt.errors import misfit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from icmp_rtt.kernel.btf import Btf
    from icmp_rtt.options import Network, Options

__all__ = ("Setting", "config_bytes", "config_of", "config_offset")

Setting = Union[int, tuple[int, ...]]  # a member's value, or those of an array
_STRUCT, _VARIABLE = "icmp_rtt_config", "config"


def config_of(options: Options, btf: Btf, netns: int, ifindex: int) -> dict[str, Setting]:
    """What options ask of the object; a member that is not in it is zero, which is off.

    Args:
        btf: of the object, for the numbers of its directions.
        netns: inode of the only network namespace looked at; 0: any.
        ifindex: the only device; 0: any.
    """
    local, local_mask = _prefix(options.local)
    remote, remote_mask = _prefix(options.remote)
    return {
        "local": local,
        "local_mask": local_mask,
        "remote": remote,
        "remote_mask": remote_mask,
        "min_rtt_ns": options.latency_ns,
        "netns": netns,
        "ifindex": ifindex,
        "ifname": struct.unpack("=2Q", os.fsencode(options.interface or "").ljust(16, b"\0")),
        "directions": sum(
            bit
            for name, bit in btf.enum("icmp_rtt_direction").items()
            if options.direction in ("both", name.rpartition("_")[2].lower())
        ),
        "stacks": int(options.stacks),
        "only_incomplete": int(options.only_incomplete),
    }


def config_offset(btf: Btf) -> int:
    """Where the configuration lies in .rodata.

    Raises:
        ObjectError: not there, or of another size than its struct.
    """
    found = btf.variable(_VARIABLE)
    expected = btf.struct(_STRUCT).size
    if found.size != expected or found.section != ".rodata":
        raise misfit(
            f"config has {found.size} bytes in {found.section}, expected {expected} in .rodata"
        )
    return found.offset


def config_bytes(btf: Btf, config: Mapping[str, Setting]) -> bytes:
    """The bytes of a configuration.

    Raises:
        ObjectError: the object's has not all of its members, or smaller ones.
    """
    values: dict[str, int] = {}
    for name, value in config.items():
        if isinstance(value, tuple):
            values.update({f"{name}[{i}]": each for i, each in enumerate(value)})
        else:
            values[name] = value
    return btf.struct(_STRUCT).format().pack(values)


def _words(packed: bytes) -> tuple[int, ...]:
    """An address as the four 32-bit words of a configuration, as they lie in memory."""
    return struct.unpack("=4I", packed.ljust(16, b"\0"))


def _prefix(network: Network | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if network is None:
        return (0,) * 4, (0,) * 4
    return _words(network.network_address.packed), _words(network.netmask.packed)
