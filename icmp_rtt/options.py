# SPDX-License-Identifier: GPL-2.0-only
"""What is to be traced and how: checked values, and the text that they come from.

Knows nothing of argparse, and nothing of this host: whether an interface or a
file exists is found out where it is used. ipaddress is imported where an address is given.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from icmp_rtt.errors import OptionError

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    Network = IPv4Network | IPv6Network

__all__ = (
    "BACKENDS",
    "DEFAULT_MAX_SESSIONS",
    "DEFAULT_TIMEOUT_NS",
    "DIRECTIONS",
    "FORMATS",
    "Options",
    "Place",
    "parse_count",
    "parse_interface",
    "parse_max_sessions",
    "parse_milliseconds",
    "parse_place",
    "parse_seconds",
    "parse_word",
    "validate",
)

BACKENDS = ("auto", "fentry", "kprobe", "tracepoint")
DIRECTIONS = ("tx", "rx", "both")
FORMATS = ("text", "json")
DEFAULT_TIMEOUT_NS = 1_000_000_000
DEFAULT_MAX_SESSIONS = 4096

_MAX_SESSIONS = 1 << 20
_MAX_COUNT = 1 << 63
_MAX_NS = 1 << 62  # 146 years; leaves room for sums in 64 bits
_IFNAME_BYTES = 15
_NOT_IN_IFNAME = frozenset(b"/: \t\n\v\f\r\xa0")  # dev_valid_name(), to which 0xa0 is a space


class Place(NamedTuple):
    """Whose echoes: an address or a prefix, and the zone of an address that is of a link alone."""

    network: Network
    zone: str | None


class Options(NamedTuple):
    """Everything that a run depends on; ``validate`` makes one that holds together."""

    local: Network | None = None
    remote: Network | None = None
    families: tuple[int, ...] = (4, 6)
    direction: str = "tx"
    interface: str | None = None
    latency_ns: int = 0
    stacks: bool = True
    backend: str = "auto"
    netns: str | None = None
    timeout_ns: int = DEFAULT_TIMEOUT_NS
    max_echoes: int | None = None  # that are reported before the run ends
    duration_ns: int | None = None
    format: str = "text"
    self_test: bool = True
    btf: str | None = None
    object: str | None = None
    libbpf: str | None = None
    verbose: bool = False
    only_incomplete: bool = False
    max_sessions: int = DEFAULT_MAX_SESSIONS
    command: tuple[str, ...] = ()


def validate(options: Options, local: Place | None, remote: Place | None) -> Options:
    """``options`` with the places put in, and what follows from them.

    Raises:
        OptionError: they contradict each other.
    """
    places = [place for place in (local, remote) if place is not None]
    families = sorted({place.network.version for place in places})
    if len(families) > 1:
        raise OptionError(
            "--src-ip and --dst-ip are of different families;"
            " give two IPv4 addresses or two IPv6 addresses"
        )
    interface = options.interface
    for zone in [place.zone for place in places if place.zone is not None]:
        if interface is not None and interface != zone:
            raise _not_alike(zone, interface)
        interface = zone
    if options.only_incomplete and options.latency_ns:
        raise OptionError(
            "--only-incomplete leaves nothing for --latency-ms to choose from; give one of them"
        )
    if options.command and not options.command[0]:
        raise OptionError("COMMAND is empty; give a program after --, or leave both out")
    return options._replace(
        local=local and local.network,
        remote=remote and remote.network,
        families=tuple(families) or (4, 6),
        interface=interface,
    )


def parse_place(option: str, text: str) -> Place:
    """An IPv4 or IPv6 address or prefix; an address that is of a link alone may have a zone.

    Raises:
        OptionError: it is neither; ``option`` is named in the message.
    """
    from ipaddress import ip_network

    address, percent, zone = text.partition("%")
    try:
        _refuse_mask(address)
        network = ip_network(address)
    except ValueError:
        raise _not_a_place(option, text) from None
    single = network.prefixlen == network.max_prefixlen
    if percent and not (zone and single and _is_of_a_link(network)):
        raise OptionError(
            f"{option}: '{text}' has a zone; only a single link-local IPv6 address takes one,"
            " be it a multicast address, as in fe80::1%eth0 or ff02::1%eth0"
        )
    plain = _unmapped(network)
    if single and plain.network_address.is_unspecified:
        every = "0.0.0.0/0" if plain.version == 4 else "::/0"
        raise OptionError(
            f"{option}: {text} is no host's address; for every address"
            f" leave {option} out, or give {every}"
        )
    if plain is not network:
        form = plain.network_address if single else plain
        raise OptionError(f"{option}: {text} stands for IPv4; give it in that form, as in {form}")
    return Place(network, parse_interface(option, zone) if percent else None)


def parse_interface(option: str, text: str) -> str:
    """A name that an interface may have.

    Raises:
        OptionError: none may have it.
    """
    name = os.fsencode(text)
    if len(name) > _IFNAME_BYTES:
        raise OptionError(
            f"{option}: no interface can have the name '{text}', longer than {_IFNAME_BYTES} bytes;"
            " of one with an alternative name give its own: 'ip link' lists those there are"
        )
    if not name or text in (".", "..") or not _NOT_IN_IFNAME.isdisjoint(name):
        raise OptionError(
            f"{option}: no interface can have the name '{text}'; 'ip link' lists those there are"
        )
    return text


def parse_milliseconds(option: str, text: str) -> int:
    """Milliseconds, fractions allowed, as nanoseconds; anything above 0 is at least 1 ns.

    Raises:
        OptionError: it is no number, negative, or too large.
    """
    return _parse_ns(option, text, 1_000_000, "a number of milliseconds, 0 or more, such as 1.5")


def parse_seconds(option: str, text: str) -> int:
    """Seconds above 0, fractions allowed, as nanoseconds.

    Raises:
        OptionError: it is no number, not above 0, or too large.
    """
    wanted = "a number of seconds above 0, such as 2.5"
    value_ns = _parse_ns(option, text, 1_000_000_000, wanted)
    if value_ns == 0:
        raise OptionError(f"{option}: '{text}' will not do; give {wanted}")
    return value_ns


def parse_count(option: str, text: str, maximum: int = _MAX_COUNT) -> int:
    """A whole number from 1 to ``maximum``.

    Raises:
        OptionError: it is something else.
    """
    number = text.lstrip("0") if _is_digits(text) else ""
    # Python makes no number of too many digits.
    if not (number and len(number) <= 20 and int(number) <= maximum):
        most = f" and not above {maximum}" if number or maximum < _MAX_COUNT else ""
        raise OptionError(f"{option}: '{text}' will not do; give a whole number above 0{most}")
    return int(number)


def parse_max_sessions(option: str, text: str) -> int:
    """How many echoes may be under way at once: see ``parse_count``."""
    return parse_count(option, text, _MAX_SESSIONS)


def parse_word(option: str, text: str) -> str:
    """Anything but nothing.

    Raises:
        OptionError: it is empty.
    """
    if not text:
        raise OptionError(f"{option} is empty; give it a value, or leave it out")
    return text


def _parse_ns(option: str, text: str, unit_ns: int, wanted: str) -> int:
    try:
        value_ns = float(text) * unit_ns if text.isascii() and "_" not in text else -1.0
    except ValueError:
        value_ns = -1.0
    if not 0 <= value_ns < _MAX_NS:  # false for nan too
        most = ", and less than 146 years" if value_ns >= _MAX_NS else ""
        raise OptionError(f"{option}: '{text}' will not do; give {wanted}{most}")
    return max(round(value_ns), 1 if value_ns > 0 else 0)


def _not_alike(zone: str, interface: str) -> OptionError:
    """Two words for one interface; which device has an index is not known here."""
    if not (_is_digits(zone) or _is_digits(interface)):
        return OptionError(
            f"the zone %{zone} of an address is not the interface {interface};"
            " give the zone alone, or both alike"
        )
    return OptionError(
        f"the zone %{zone} of an address need not be the interface {interface};"
        " give the zone alone, or both by name, or both by index"
    )


def _not_a_place(option: str, text: str) -> OptionError:
    from ipaddress import ip_network

    try:
        _refuse_mask(text)
        suggested = _unmapped(ip_network(text, strict=False))
    except ValueError:
        return OptionError(
            f"{option}: '{text}' is neither an address nor a prefix;"
            " give one such as 192.0.2.1, 192.0.2.0/24 or 2001:db8::1"
        )
    address = _unmapped(ip_network(text.partition("/")[0])).network_address
    return OptionError(
        f"{option}: {text} has bits set behind its prefix length;"
        f" give {suggested} for the prefix or {address} for the address"
    )


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_of_a_link(network: Network) -> bool:
    """Whether each link has such addresses of its own, so that one takes a zone (RFC 4007)."""
    if network.version == 4:
        return False
    first, second = network.network_address.packed[:2]
    multicast = first == 0xFF and second & 0xF in (1, 2)  # interface-local, link-local
    return network.is_link_local or multicast


def _unmapped(network: Network) -> Network:
    """What stands for IPv4 in that form (RFC 4291, 2.5.5.2), anything else as it is."""
    from ipaddress import ip_network

    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None:
        return network
    return ip_network((mapped, network.prefixlen - 96))  # any less has bits set behind it


def _refuse_mask(text: str) -> None:
    """Raise ValueError for 10.0.0.0/255.0.0.0 and 10.0.0.0/0.0.0.255, which Python takes, too."""
    _, slash, length = text.partition("/")
    if slash and not length.isdigit():
        raise ValueError
