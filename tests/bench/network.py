# SPDX-License-Identifier: GPL-2.0-only
"""A veth pair with both ends on one kernel, on which no device merges or splits packets."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ("LOCAL", "NETNS", "OTHER", "PEER", "Veth", "packets")

LOCAL, PEER, OTHER = "10.77.0.1", "10.77.0.2", "10.77.0.3"
NETNS = "irtbench"

_SETUP = f"""
ip netns add {NETNS}
ip link add v0 type veth peer name v1 netns {NETNS}
sysctl -q net.ipv6.conf.v0.disable_ipv6=1
ip netns exec {NETNS} sysctl -q net.ipv6.conf.v1.disable_ipv6=1
ethtool -K v0 tso off gso off gro off
ip netns exec {NETNS} ethtool -K v1 tso off gso off gro off
ip address add {LOCAL}/24 dev v0
ip -n {NETNS} address add {PEER}/24 dev v1
ip -n {NETNS} address add {OTHER}/24 dev v1
ip link set v0 up
ip -n {NETNS} link set lo up
ip -n {NETNS} link set v1 up
"""


class Veth:
    """v0 here and v1 in a namespace of its own; a context manager."""

    def __enter__(self) -> Veth:
        for command in _SETUP.strip().splitlines():
            subprocess.run(command.split(), check=True, stdout=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["ip", "netns", "delete", NETNS], check=True)


def packets() -> int:
    """Packets that have crossed the pair so far, in either direction."""
    statistics = Path("/sys/class/net/v0/statistics")
    return sum(int((statistics / f"{way}_packets").read_text()) for way in ("tx", "rx"))
