# SPDX-License-Identifier: GPL-2.0-only
"""Text becomes checked values, or an error that says what to give instead."""

from ipaddress import ip_network

import pytest

from icmp_rtt import options
from icmp_rtt.errors import OptionError
from icmp_rtt.options import Options, Place, validate


@pytest.mark.parametrize(
    ("text", "network", "zone"),
    [
        ("192.168.1.10", "192.168.1.10/32", None),
        ("10.0.0.0/8", "10.0.0.0/8", None),
        ("0.0.0.0/0", "0.0.0.0/0", None),
        ("2001:DB8::1", "2001:db8::1/128", None),
        ("::/0", "::/0", None),
        ("fe80::1%eth0", "fe80::1/128", "eth0"),
        ("ff02::1%eth0", "ff02::1/128", "eth0"),
        ("ff01::1%2", "ff01::1/128", "2"),
        ("ff12::1:2%eth0", "ff12::1:2/128", "eth0"),
        ("fe80::/64", "fe80::/64", None),
    ],
)
def test_places(text, network, zone):
    """An address, a prefix, or an address of a link with its zone."""
    assert options.parse_place("--src-ip", text) == Place(ip_network(network), zone)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "neither an address nor a prefix"),
        ("10.1", "neither an address nor a prefix"),
        ("10.0.0.256", "neither"),
        ("host.example", "neither"),
        ("10.0.0.1/33", "neither"),
        ("1.2.3.4 ", "neither"),
        ("010.0.0.1", "neither"),
        ("10.0.0.0/255.0.0.0", "neither"),
        ("10.0.0.0/0.0.0.255", "neither"),
        ("10.0.0.5/8", "give 10.0.0.0/8 for the prefix or 10.0.0.5 for the address"),
        ("2001:db8::1/64", "give 2001:db8::/64 for the prefix or 2001:db8::1 for the address"),
        ("0.0.0.0", "leave --src-ip out, or give 0.0.0.0/0"),
        ("::", "leave --src-ip out, or give ::/0"),
        ("::ffff:10.0.0.1", "stands for IPv4; give it in that form, as in 10.0.0.1"),
        ("::ffff:10.0.0.0/104", "as in 10.0.0.0/8"),
        ("::ffff:10.0.0.2/127", "as in 10.0.0.2/31"),
        ("::ffff:0:0/96", "as in 0.0.0.0/0"),
        ("::ffff:0.0.0.0", "leave --src-ip out, or give 0.0.0.0/0"),
        ("::ffff:10.0.0.5/104", "give 10.0.0.0/8 for the prefix or 10.0.0.5 for the address"),
        ("::ffff:10.0.0.5/64", "give ::/64 for the prefix or 10.0.0.5 for the address"),
        ("10.0.0.1%eth0", "only a single link-local IPv6 address takes one"),
        ("2001:db8::1%eth0", "only a single link-local IPv6 address takes one"),
        ("fe80::1%", "only a single link-local IPv6 address takes one"),
        ("fe80::/64%eth0", "only a single link-local IPv6 address takes one"),
        ("ff02::/16%eth0", "only a single link-local IPv6 address takes one"),
        ("ff05::1%eth0", "be it a multicast address, as in fe80::1%eth0 or ff02::1%eth0"),
        ("224.0.0.1%eth0", "only a single link-local IPv6 address takes one"),
        ("fe80::1%a/b", "no interface can have the name"),
    ],
)
def test_bad_places(text, words):
    """What is no address is refused with the option, the cause and a remedy."""
    with pytest.raises(OptionError) as caught:
        options.parse_place("--src-ip", text)
    message = str(caught.value)
    assert message.startswith("--src-ip: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "value_ns"),
    [
        ("0", 0),
        ("10", 10_000_000),
        ("0.5", 500_000),
        ("0.3", 300_000),
        ("1e3", 1_000_000_000),
        ("0.0000001", 1),
        ("-0", 0),
    ],
)
def test_milliseconds(text, value_ns):
    """Milliseconds may have fractions, and only 0 is 0."""
    assert options.parse_milliseconds("--latency-ms", text) == value_ns


BAD_NUMBERS = ["", "x", "-1", "-0.5", "nan", "inf", "-inf", "1e300", "1_000", "1,5", "٣", "10ms"]


@pytest.mark.parametrize("text", BAD_NUMBERS)
def test_bad_milliseconds(text):
    """What is no time is refused."""
    with pytest.raises(OptionError, match=r"^--latency-ms: .* give a number of milliseconds"):
        options.parse_milliseconds("--latency-ms", text)


@pytest.mark.parametrize(
    ("text", "value_ns"), [("1", 1_000_000_000), ("2.5", 2_500_000_000), ("1e-9", 1)]
)
def test_seconds(text, value_ns):
    """Seconds may have fractions."""
    assert options.parse_seconds("--timeout", text) == value_ns


@pytest.mark.parametrize("text", [*BAD_NUMBERS, "0", "0.0"])
def test_bad_seconds(text):
    """A time to wait must be above 0."""
    with pytest.raises(OptionError, match=r"^--timeout: .* give a number of seconds above 0"):
        options.parse_seconds("--timeout", text)


def test_counts():
    """A count is a whole number from 1 on."""
    assert options.parse_count("--count", "1") == 1
    assert options.parse_count("--count", "9999999") == 9_999_999
    assert options.parse_max_sessions("--max-sessions", "1048576") == 1 << 20


def test_zeros_before_a_count():
    """However many, they make it no larger."""
    for zeros in ("0", "0" * 22, "0" * 5000):
        assert options.parse_count("--count", f"{zeros}1") == 1
        assert options.parse_max_sessions("--max-sessions", f"{zeros}64") == 64
        with pytest.raises(OptionError, match=r"give a whole number above 0$"):
            options.parse_count("--count", zeros)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "x", "+1", "1_0", "٣", " 1"])
def test_bad_counts(text):
    """Anything else is refused."""
    with pytest.raises(OptionError, match=r"^--count: .* give a whole number above 0$"):
        options.parse_count("--count", text)


@pytest.mark.parametrize("text", ["9" * 5000, "99999999999999999999", "9223372036854775809"])
def test_counts_too_large(text):
    """They are told the limit."""
    with pytest.raises(OptionError, match=r"above 0 and not above 9223372036854775808$"):
        options.parse_count("--count", text)


@pytest.mark.parametrize("text", ["1e18", "inf", "1e400"])
def test_times_too_long(text):
    """So are they."""
    with pytest.raises(OptionError, match=r"such as 1\.5, and less than 146 years$"):
        options.parse_milliseconds("--latency-ms", text)
    with pytest.raises(OptionError, match=r"such as 2\.5, and less than 146 years$"):
        options.parse_seconds("--timeout", text)


def test_too_many_sessions():
    """More sessions than a map should hold are refused with the limit."""
    with pytest.raises(OptionError, match=r"above 0 and not above 1048576$"):
        options.parse_max_sessions("--max-sessions", "1048577")


@pytest.mark.parametrize("name", ["eth0", "a" * 15, "br-1.100@x", "é" * 7, "a\u2003b", "a\x1f"])
def test_interfaces(name):
    """Any name that the kernel would take."""
    assert options.parse_interface("--interface", name) == name


@pytest.mark.parametrize(
    "name", ["", "a" * 16, "é" * 8, "a/b", "a b", "a:1", ".", "..", "a\n", "à"]
)
def test_bad_interfaces(name):
    """A name that the kernel would not take is refused without looking."""
    with pytest.raises(OptionError, match=r"^--interface: no interface can have the name"):
        options.parse_interface("--interface", name)


def test_an_interface_has_the_bytes_of_the_locale(monkeypatch):
    """The kernel's limit is one of bytes, as they came from the command line."""
    monkeypatch.setattr(options.os, "fsencode", lambda text: text.encode("latin-1"))
    assert options.parse_interface("--interface", "é" * 15) == "é" * 15


def test_word():
    """An empty word is a mistake."""
    assert options.parse_word("--netns", "blue") == "blue"
    with pytest.raises(OptionError, match=r"^--netns is empty"):
        options.parse_word("--netns", "")


def place(text):
    """A place of either family."""
    return options.parse_place("--src-ip", text)


@pytest.mark.parametrize(
    ("local", "remote", "families"),
    [
        (None, None, (4, 6)),
        ("10.0.0.1", None, (4,)),
        (None, "::/0", (6,)),
        ("10.0.0.1", "10.0.0.0/8", (4,)),
    ],
)
def test_families_follow_from_the_places(local, remote, families):
    """Only the families that can match are traced."""
    made = validate(Options(), local and place(local), remote and place(remote))
    assert made.families == families
    assert made.local == (local and ip_network(local))
    assert made.remote == (remote and ip_network(remote))


def test_mixed_families():
    """An IPv4 and an IPv6 address never meet."""
    with pytest.raises(OptionError, match="of different families; give two"):
        validate(Options(), place("10.0.0.1"), place("::1"))


def test_zone_names_the_interface():
    """The zone of an address is the interface, and must not contradict it."""
    zoned = place("fe80::1%eth0")
    assert validate(Options(), zoned, None).interface == "eth0"
    assert validate(Options(interface="eth0"), None, zoned).interface == "eth0"
    with pytest.raises(OptionError, match="%eth0 of an address is not the interface eth1"):
        validate(Options(interface="eth1"), zoned, None)
    with pytest.raises(OptionError, match="%eth1 of an address is not the interface eth0"):
        validate(Options(), zoned, place("fe80::2%eth1"))


def test_a_name_and_an_index_may_be_of_one_device():
    """That is not known here: they are not said to be two, and how to give them is told."""
    zoned = place("fe80::1%2")
    assert validate(Options(interface="2"), zoned, None).interface == "2"
    words = "%2 of an address need not be the interface eth0; .*both by name, or both by index"
    with pytest.raises(OptionError, match=words):
        validate(Options(interface="eth0"), zoned, None)
    with pytest.raises(OptionError, match=words):
        validate(Options(), place("fe80::1%eth0"), zoned)
    with pytest.raises(OptionError, match="%2 of an address need not be the interface 02"):
        validate(Options(interface="02"), zoned, None)


def test_threshold_without_complete_echoes():
    """A threshold has no meaning where complete echoes are not asked for."""
    with pytest.raises(OptionError, match="give one of them"):
        validate(Options(only_incomplete=True, latency_ns=1), None, None)


def test_command_without_a_name():
    """A COMMAND has to be something that can be run at all."""
    with pytest.raises(OptionError, match="COMMAND is empty; give a program"):
        validate(Options(command=("", "x")), None, None)


def test_options_do_not_change():
    """Nobody can change what was checked."""
    with pytest.raises(AttributeError):
        Options().max_echoes = 3
