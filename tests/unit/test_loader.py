# SPDX-License-Identifier: GPL-2.0-only
"""The object is opened by libbpf, and looked through by pyelftools where it need not be sound."""

import contextlib
from errno import EACCES
from pathlib import Path

import pytest
from elfwriter import elf

from icmp_rtt import carried, loader
from icmp_rtt.errors import LibbpfError, ObjectError
from icmp_rtt.kernel.bpfobject import Object
from icmp_rtt.kernel.libbpf import Libbpf
from icmp_rtt.kernel.objfile import ObjectFile
from icmp_rtt.loader import Loader, Refused

CARRIED = [carried.on_disk(name) for name in (carried.OBJECT, carried.OBJECT_WITHOUT_BTF)]


@pytest.fixture(scope="module")
def lib():
    """The system's libbpf: opening an object takes no privilege."""
    return Libbpf()


@pytest.fixture
def damaged(tmp_path):
    """The carried object without its end."""
    path = tmp_path / "x.o"
    path.write_bytes(Path(CARRIED[0]).read_bytes()[:100_000])
    return str(path)


@pytest.mark.parametrize("path", CARRIED)
def test_libbpf_and_the_symbol_table_agree_on_the_place_of_the_configuration(lib, path):
    """Two readers, one fact."""
    with contextlib.closing(Loader(lib, path, None)) as found:
        place = found.btf.variable("config")
    symbol = ObjectFile.read(path).symbol("config")
    assert place == (symbol.section, symbol.offset, symbol.size)


@pytest.mark.parametrize("foreign", [False, True])
def test_a_damaged_object_is_told_in_our_words(lib, damaged, foreign):
    """Whether it was looked through before, or libbpf has refused it."""
    with pytest.raises(ObjectError, match="x.o: truncated: 100000 bytes of at least"):
        Loader(lib, damaged, None, foreign)


def test_a_foreign_object_is_looked_through_before_libbpf_has_it(lib, tmp_path, monkeypatch):
    """It may be the worst."""
    path = tmp_path / "x.o"
    path.write_bytes(elf(symbols=[("other", 1, 0, 8)]))
    monkeypatch.setattr(loader, "Object", lambda *_: pytest.fail("libbpf has it"))
    with pytest.raises(ObjectError):
        Loader(lib, str(path), None, foreign=True)


def test_the_object_of_another_sort_of_kernel_is_refused(lib, monkeypatch):
    """It lacks the programs; the remedy is told."""
    monkeypatch.setattr(loader, "has_own_btf", lambda: True)
    with pytest.raises(ObjectError, match="no program tp_btf__netif_receive_skb.*another file"):
        loader.open_loader(lib, CARRIED[1], None)


def test_what_was_opened_ahead_is_used_once_and_else_closed(lib, monkeypatch):
    """The second load opens another."""
    closed = []
    close = Object.close
    monkeypatch.setattr(Object, "close", lambda obj: (closed.append(obj), close(obj))[1])
    found = Loader(lib, CARRIED[0], None)
    first = found._opened(atomics=True)
    second = found._opened(atomics=True)
    found.close()
    assert first is not second
    assert closed == []
    for each in (first, second):
        each.close()
    unused = Loader(lib, CARRIED[0], None)
    unused.close()
    unused.close()
    assert len(closed) == 3


def test_a_refused_load_is_heard_the_second_time(lib, monkeypatch):
    """libbpf says nothing at first; what it says names the program."""
    found = Loader(lib, CARRIED[0], None)
    config = {"atomics": 1, "stacks": 0}
    heard = []

    def load(obj):
        heard.append(obj.lib.listening)
        words = "libbpf: prog 'fentry__ip_rcv': failed to load: -13\n" if heard[-1] else ""
        raise LibbpfError("bpf_object__load", EACCES, words)

    monkeypatch.setattr(Object, "load", load)
    with pytest.raises(Refused) as caught:
        found.load(iter(["fentry__ip_rcv", "fentry__icmp_rcv"]), config, 64)
    assert caught.value.program == "fentry__ip_rcv"
    assert heard == [False, True]
    assert not lib.listening
