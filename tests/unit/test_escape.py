# SPDX-License-Identifier: GPL-2.0-only
"""What outsiders name themselves cannot do harm on a terminal."""

import pytest

from icmp_rtt.report.escape import decoded, printable, printable_text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b"", ""),
        (b"ping", "ping"),
        (b"kworker/0:1+ev", "kworker/0:1+ev"),
        ("пинг".encode(), "пинг"),
        (b"\x1b[31mred", r"\x1b[31mred"),
        (b"a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"cut\xd0", r"cut\xd0"),
        (rb"a\x1b", r"a\x5cx1b"),
        ("\u202eevil".encode(), r"\xe2\x80\xaeevil"),
        ("\x9b2J".encode(), r"\xc2\x9b2J"),
        (b"\x7f", r"\x7f"),
    ],
)
def test_printable(raw, shown):
    r"""Whatever is not printable UTF-8 reads \xNN, and a backslash cannot pretend to be that."""
    assert printable(raw) == shown
    assert shown.isprintable()


def test_any_byte_is_shown():
    """No byte makes it fail or get through unseen."""
    for byte in range(256):
        text = printable(bytes([byte]))
        assert text.isprintable()
        assert text


def test_text_from_arguments():
    """Text that came in as bytes is as harmless, and keeps its own backslashes."""
    assert printable_text("C:\\x \udcff\x1b") == "C:\\x \\xff\\x1b"


def test_decoded_loses_nothing():
    """For JSON, which escapes control characters itself, only invalid UTF-8 is replaced."""
    assert decoded(b"a\x1b\n\xff\xd0\xbf") == "a\x1b\n\\xffп"
