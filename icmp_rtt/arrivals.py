# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel side still keeps of a reply that arrived and was not delivered.

The stamp of ip_rcv waits with the packet's arrival until icmp_rcv takes it, or
until the packet is dropped. One that is held for longer (in a queue of
nftables, say) is looked up here when its session is given up.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icmp_rtt.kernel.btf import Btf
    from icmp_rtt.kernel.maps import Map

__all__ = ("Arrivals",)


class Arrivals:
    """Arrivals of all CPUs, by the layout of the object.

    Args:
        cpus: the map of struct cpu_state.

    Raises:
        ObjectError: the object's layout lacks what is looked for.
    """

    def __init__(self, btf: Btf, cpus: Map) -> None:
        self._cpus = cpus
        event, hooks = btf.struct("icmp_rtt_event").fields, btf.enum("icmp_rtt_hook")
        recv, ip_rcv = hooks["HOOK_RECV"], hooks["HOOK_IP_RCV"]
        self._recv_skb = event["skb"].offset + 8 * recv
        self._recv_cpu = event["cpu"].offset + 2 * recv
        self._ip_rcv_ns = event["ts_ns"].offset + 8 * ip_rcv
        self._ip_rcv_skb = event["skb"].offset + 8 * ip_rcv
        self._ip_rcv_cpu = event["cpu"].offset + 2 * ip_rcv
        self._ip_rcv_probe = event["probe"].offset + ip_rcv
        self._arrival = btf.struct("cpu_state").fields["arrival"]

    def add(self, session: bytes) -> bytes:
        """``session`` with the stamp of ip_rcv, if that is still kept."""
        (skb,) = struct.unpack_from("=Q", session, self._recv_skb)
        (known_ns,) = struct.unpack_from("=Q", session, self._ip_rcv_ns)
        if not skb or known_ns:
            return session
        cpu = session[self._recv_cpu : self._recv_cpu + 2]
        state = self._cpus.lookup(cpu.ljust(4, b"\0")) or b""
        found = self._find(state, skb)
        if found is None:
            return session
        ts_ns, probe = found
        patched = bytearray(session)
        struct.pack_into("=Q", patched, self._ip_rcv_ns, ts_ns)
        struct.pack_into("=Q", patched, self._ip_rcv_skb, skb)
        patched[self._ip_rcv_cpu : self._ip_rcv_cpu + 2] = cpu
        patched[self._ip_rcv_probe] = probe
        return bytes(patched)

    def _find(self, state: bytes, skb: int) -> tuple[int, int] | None:
        """Time and probe at ip_rcv of the arrival of ``skb``."""
        layout = self._arrival.struct
        if layout is None:
            return None
        fields = layout.fields
        begin = self._arrival.offset
        for at in range(begin, begin + layout.size * self._arrival.elements, layout.size):
            if struct.unpack_from("=Q", state, at + fields["skb"].offset) != (skb,):
                continue
            (ts_ns,) = struct.unpack_from("=Q", state, at + fields["ip_rcv_ns"].offset)
            if ts_ns:
                return ts_ns, state[at + fields["ip_rcv_probe"].offset]
        return None
