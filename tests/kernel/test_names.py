# SPDX-License-Identifier: GPL-2.0-only
"""Names that outsiders chose to do harm are harmless in every report, with the real kernel."""

import json
import os
import subprocess
import sys

import pytest
from conftest import sh

pytestmark = pytest.mark.native
COMM = b"\x1b[2J\n\t\\\xff\xd0\xbf\xe2\x80\xae"  # 14 of the 15 bytes that there may be
COMM_SHOWN = r"\x1b[2J\x0a\x09\x5c\xffп\xe2\x80\xae"
DEVICE = b'o\x1b[1m\xff\\"'
DEVICE_SHOWN = r'o\x1b[1m\xff\x5c"'
LOCAL, PEER = "10.79.0.1", "10.79.0.2"
# Names itself, then sends echo requests through a raw socket.
SENDER = f"""
import ctypes, socket, struct
ctypes.CDLL(None).prctl(15, {COMM!r}, 0, 0, 0)
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    raw.settimeout(30)
    for seq in range(1, 8):
        checksum = 0xFFFF - 0x0800 - 0x4321 - seq
        raw.sendto(struct.pack("!BBHHH", 8, 0, checksum, 0x4321, seq), ({PEER!r}, 0))
        while raw.recv(256)[20] != 0:
            pass
"""


@pytest.fixture(scope="module")
def device(veth):
    """A veth with an odd name here; its other end is in irtpeer."""
    sh("ip -n irtpeer link add o1 type veth peer name o0 && ip -n irtpeer link set o0 netns $$")
    subprocess.run([b"ip", b"link", b"set", b"o0", b"name", DEVICE], check=True)
    subprocess.run([b"ip", b"address", b"add", f"{LOCAL}/24".encode(), b"dev", DEVICE], check=True)
    subprocess.run([b"ip", b"link", b"set", DEVICE, b"up"], check=True)
    sh(f"ip -n irtpeer address add {PEER}/24 dev o1; ip -n irtpeer link set o1 up")
    yield DEVICE
    subprocess.run([b"ip", b"link", b"delete", DEVICE], check=True)


def traced(device, form):
    """What the tool printed, in bytes: reports and messages."""
    tool = [sys.executable, "-m", "icmp_rtt", "--backend", "tracepoint", "--format", form]
    where = ["--netns", "/proc/self/ns/net", "--interface", device, "--src-ip", LOCAL]
    done = subprocess.run(
        [*tool, *where, "--disable-kernel-stacks", "--", sys.executable, "-c", SENDER],
        capture_output=True,
        timeout=90,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    return done


def test_json_is_valid_and_complete(device):
    """Every byte of a name is in the JSON; what is no UTF-8 reads as its number."""
    lines = [json.loads(line) for line in traced(device, "json").stdout.splitlines()]
    shown = device.decode("utf-8", "backslashreplace")
    assert lines[0]["interface"] == shown
    echoes = [line for line in lines if line["type"] == "echo"]
    assert len(echoes) == 7
    for echo in echoes:
        assert echo["request"]["comm"] == COMM.decode("utf-8", "backslashreplace")
        assert {echo["request"]["ifname"], echo["reply"]["ifname"]} == {shown}


def test_text_holds_nothing_but_text(device):
    """No control character gets through to a terminal, and no line is broken by one."""
    done = traced(device, "text")
    text = done.stdout.decode()
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(line.isprintable() for line in done.stderr.decode().split("\n"))
    assert text.count(f"COMM={COMM_SHOWN}") >= 7  # a reply may interrupt the sender itself
    assert text.count(f"IF={DEVICE_SHOWN}") == 14
    assert f"Monitoring interface: {DEVICE_SHOWN} (" in text
