# SPDX-License-Identifier: GPL-2.0-only
"""Send echo requests through a packet socket, link header and all, as packet crafters do.

Arguments: device, MAC address of the next hop (and a slash and a VLAN's id, to tag them),
source, destination, id, how many, and "bypass" to send them around the device's queue.
"""

import socket
import struct
import sys

ETH_P_IP, ETH_P_8021Q = 0x0800, 0x8100
ECHO_REQUEST = 8
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20


def checksum(data):
    """The Internet checksum of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def echo_request(source, destination, identifier, sequence):
    """An IPv4 packet."""
    body = struct.pack("!HH", identifier, sequence) + bytes(56)
    head = struct.pack("!BB", ECHO_REQUEST, 0)
    icmp = head + struct.pack("!H", checksum(head + b"\0\0" + body)) + body
    fields = [0x45, 0, 20 + len(icmp), sequence, 0, 64, socket.IPPROTO_ICMP, 0]
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    fields[7] = checksum(struct.pack("!BBHHHBBH", *fields) + addresses)
    return struct.pack("!BBHHHBBH", *fields) + addresses + icmp


def main(device, mac, source, destination, identifier, count, *bypass):
    """Send them, one right after the other."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP)) as sender:
        sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, int(bool(bypass)))
        sender.bind((device, ETH_P_IP))
        own_mac = sender.getsockname()[4]
        hop, _, vlan = mac.partition("/")
        tag = struct.pack("!HH", ETH_P_8021Q, int(vlan)) if vlan else b""
        ethernet = bytes.fromhex(hop.replace(":", "")) + own_mac + tag + struct.pack("!H", ETH_P_IP)
        for sequence in range(1, int(count) + 1):
            sender.send(ethernet + echo_request(source, destination, int(identifier), sequence))


main(*sys.argv[1:])
