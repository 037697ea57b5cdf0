# SPDX-License-Identifier: GPL-2.0-only
"""Send echo requests with scapy, which builds whole frames and has a packet socket send them.

Arguments: device, MAC address of the next hop, destination, id, how many.
"""

import sys

from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether
from scapy.sendrecv import sendp


def main(device, mac, destination, identifier, count):
    """Send them, one right after the other."""
    head = Ether(dst=mac) / IP(dst=destination)
    frames = [
        head / ICMP(id=int(identifier), seq=sequence) / bytes(56)
        for sequence in range(1, int(count) + 1)
    ]
    sendp(frames, iface=device, verbose=False)


main(*sys.argv[1:])
