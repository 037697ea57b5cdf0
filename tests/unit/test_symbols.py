# SPDX-License-Identifier: GPL-2.0-only
"""Kernel functions are found by address and by exact name."""

import os
import random

import pytest

from icmp_rtt.errors import RequirementError
from icmp_rtt.kernel import symbols as symbols_module
from icmp_rtt.kernel.symbols import Symbols

KALLSYMS = """\
0000000000000000 A fixed_percpu_data
0000000000030640 A bpf_prog_active
ffffffff81000000 T _stext
ffffffff81000000 T _text
ffffffff81001000 t ip_rcv_core
ffffffff81001200 T ip_rcv
ffffffff81001300 W ip_list_rcv
ffffffff81001400 T __pfx_icmp_rcv
ffffffff81001410 T icmp_rcv
ffffffff81001800 D icmp_data
ffffffff81001900 T panic
ffffffff81001a00 T after_panic
ffffffff81001a40 t dup
ffffffff81400000 D jiffies
ffffffffc0300400 t v_last\t[veth]
ffffffffc0300000 t v_first\t[veth]
ffffffffc0300200 T v_mid\t[veth]
ffffffffc0200100 t b_only\t[bridge]
"""

ODD = """\
ffffffffc0200200 t core.constprop.0\t[bridge]
ffffffffc0200300 t coreXconstprop.1\t[bridge]
"""


@pytest.fixture
def table(tmp_path):
    """Symbols of a file with this text."""

    def make(text=KALLSYMS):
        path = tmp_path / "kallsyms"
        path.write_text(text)
        return Symbols(str(path))

    return make


def test_names_outlive_the_file(table):
    """Once read; and nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    symbols = table()
    assert symbols.name(0xFFFFFFFF81001204) == "ip_rcv+0x4"
    assert len(os.listdir("/proc/self/fd")) == before + 1
    symbols.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert symbols.name(0xFFFFFFFF81001204) == "ip_rcv+0x4"


def test_an_address_is_named_by_the_function_that_holds_it(table):
    """Function and offset, and the module where there is one."""
    symbols = table()
    assert symbols.name(0xFFFFFFFF81001200) == "ip_rcv+0x0"
    assert symbols.name(0xFFFFFFFF810012FF) == "ip_rcv+0xff"
    assert symbols.name(0xFFFFFFFF81001300) == "ip_list_rcv+0x0"
    assert symbols.name(0xFFFFFFFF8100141A) == "icmp_rcv+0xa"
    assert symbols.problem is None


def test_symbols_of_modules_need_no_order(table):
    """The nearest one below is found, in whatever order they are listed."""
    symbols = table()
    assert symbols.name(0xFFFFFFFFC030001A) == "v_first+0x1a [veth]"
    assert symbols.name(0xFFFFFFFFC0300201) == "v_mid+0x1 [veth]"
    assert symbols.name(0xFFFFFFFFC0300410) == "v_last+0x10 [veth]"
    assert symbols.name(0xFFFFFFFFC0200100) == "b_only+0x0 [bridge]"


def test_a_return_address_belongs_to_the_caller(table):
    """After a call that never returns, the address is already that of the next function."""
    symbols = table()
    assert symbols.frame(0xFFFFFFFF81001A00) == "panic+0x100"
    assert symbols.name(0xFFFFFFFF81001A00) == "after_panic+0x0"
    assert symbols.frame(0xFFFFFFFF8100141A) == "icmp_rcv+0xa"


def test_data_is_no_function_and_the_first_of_two_names_counts(table):
    """Data symbols give no name; of two names for an address the kernel shows the first."""
    symbols = table()
    assert symbols.name(0xFFFFFFFF81001810) == "icmp_rcv+0x400"
    assert symbols.name(0xFFFFFFFF81000004) == "_stext+0x4"


@pytest.mark.parametrize(
    "address", [0, 0x1000, 0xFFFFFFFF80FFFFFF, 0xFFFFFFFF81400010, 0xFFFFFFFFFFFFFFFF]
)
def test_an_address_in_no_function_stays_an_address(table, address):
    """Nothing plausible is made up for what lies far behind a symbol, or before all."""
    assert table().name(address) == f"{address:#018x}"


def test_an_empty_file_is_told_for_what_it_is(table):
    """Nothing is hidden from anybody there, and no privilege would help."""
    symbols = table("")
    assert "kallsyms is empty: it takes a kernel with CONFIG_KALLSYMS" in symbols.problem
    assert symbols.is_empty()
    assert symbols.find(["ip_rcv"], ()) == (set(), {})
    assert not table(KALLSYMS).is_empty()


def test_hidden_addresses_are_told_with_the_remedy(table):
    """With kptr_restrict all addresses read as zero: names cannot be had, and why is said."""
    hidden = "".join("0" * 16 + line[16:] for line in KALLSYMS.splitlines(keepends=True))
    symbols = table(hidden)
    assert "kptr_restrict" in symbols.problem
    assert "CAP_SYSLOG" in symbols.problem
    assert symbols.name(0xFFFFFFFF81001200) == "0xffffffff81001200"
    assert symbols.find(["ip_rcv"], ()) == ({"ip_rcv"}, {})


def test_exact_names_are_found_letter_for_letter(table):
    """Neither part of a name, nor data, nor a name with a suffix will do."""
    symbols = table(KALLSYMS + ODD)
    asked = ["ip_rcv", "ip_list_rcv", "v_mid", "rcv", "ip_rcv_cor", "jiffies", "core", "core.", "p"]
    assert symbols.find(asked, ()) == ({"ip_rcv", "ip_list_rcv", "v_mid"}, {})
    assert symbols.find(["core.constprop.0"], ()) == ({"core.constprop.0"}, {})
    assert symbols.find(["core.constprop.1"], ()) == (set(), {})
    assert symbols.find([], ()) == (set(), {})


def test_variables_are_found_with_their_address(table):
    """One of all CPUs by its address, one of each CPU by its offset; a hidden one is not had."""
    asked = ("jiffies", "bpf_prog_active", "nosuch", "ip_rcv")
    found = {"jiffies": 0xFFFFFFFF81400000, "bpf_prog_active": 0x30640}
    assert table().find((), asked) == (set(), found)
    assert table("0000000000000000 A bpf_prog_active\n").find((), asked) == (set(), {})


def test_the_search_for_names_ends_with_the_last_one(table, monkeypatch):
    """The rest of the file, which takes the kernel long to write, is not read."""
    monkeypatch.setattr(symbols_module, "_BLOCK_TO_SEARCH", 2 * len(KALLSYMS))
    symbols = table(KALLSYMS + KALLSYMS * 200)
    read = []
    original = Symbols._read

    def counted(self, size):
        for block in original(self, size):
            read.append(len(block))
            yield block

    monkeypatch.setattr(Symbols, "_read", counted)
    assert symbols.find(["icmp_rcv", "panic"], ()) == ({"icmp_rcv", "panic"}, {})
    assert len(read) == 1
    assert symbols.find(["nosuch"], ()) == (set(), {})
    assert sum(read[1:]) == len(KALLSYMS) * 201


def test_a_file_that_cannot_be_read_is_told(tmp_path):
    """The problem names the file; a search for names cannot be answered at all."""
    symbols = Symbols(str(tmp_path / "nosuch"))
    assert "nosuch: No such file or directory" in symbols.problem
    assert symbols.name(0x1234) == "0x0000000000001234"
    with pytest.raises(RequirementError, match="No such file or directory"):
        symbols.find(["ip_rcv"], ())


@pytest.mark.parametrize("text", ["", "what is this\n", "\n\n", "12\n", "x\t[y]\n"])
def test_another_file_is_told_apart(table, text):
    """What is no kallsyms is a problem, not an exception."""
    symbols = table(text)
    assert symbols.problem
    assert symbols.name(0xFFFFFFFF81001200) == "0xffffffff81001200"


def test_nothing_is_read_before_the_first_question(tmp_path):
    """A trace without stacks never pays for the symbols."""
    path = tmp_path / "later"
    symbols = Symbols(str(path))
    path.write_text(KALLSYMS)
    assert symbols.name(0xFFFFFFFF81001200) == "ip_rcv+0x0"
    path.unlink()
    assert symbols.name(0xFFFFFFFF81001300) == "ip_list_rcv+0x0"


def test_blocks_agree_with_a_plain_search(table, monkeypatch):
    """Wherever the blocks are cut, each address is given the nearest function below it."""
    monkeypatch.setattr(symbols_module, "_BLOCK", 300)
    rng = random.Random(3)
    core = sorted(0xFFFFFFFF81000000 + rng.randrange(1 << 16) for _ in range(150))
    modules = [0xFFFFFFFFC0000000 + rng.randrange(1 << 16) for _ in range(100)]
    rows = [(a, rng.choice("tTwWdD"), f"core{i}") for i, a in enumerate(core)]
    rows += [(a, rng.choice("tTd"), f"mod{i}\t[m{i % 7}]") for i, a in enumerate(modules)]
    symbols = table("".join(f"{a:016x} {kind} {name}\n" for a, kind, name in rows))
    functions = [(a, -i, name) for i, (a, kind, name) in enumerate(rows) if kind in "tTwW"]
    for start in (0xFFFFFFFF81000000, 0xFFFFFFFFC0000000):
        for _ in range(300):
            address = start + rng.randrange(1 << 16)
            below = [row for row in functions if start <= row[0] <= address]
            expected = f"{address:#018x}"
            if below:
                nearest, _, name = max(below)
                function, _, module = name.partition("\t")
                expected = f"{function}+{address - nearest:#x}" + (f" {module}" if module else "")
            assert symbols.name(address) == expected
    assert len(symbols._blocks) > 20


def test_descriptions_kept_are_bounded(table, monkeypatch):
    """A stream of ever new addresses does not fill the memory."""
    monkeypatch.setattr(symbols_module, "_CACHED", 10)
    symbols = table()
    for address in range(0xFFFFFFFF81001200, 0xFFFFFFFF81001280):
        assert symbols.name(address).startswith("ip_rcv+")
        assert len(symbols._cache) <= 10


def test_another_file_has_no_names(table):
    """What is no list of symbols is not one without the function."""
    for text in ("\x00\x01 T icmp_rcv\n", "ffffffff810003b40 T icmp_rcv\n"):
        with pytest.raises(RequirementError, match="not in the format"):
            table(text).find(["icmp_rcv"], ())


@pytest.mark.parametrize("address", ["-fffffff81400000", "+fffffff81400000", "ffff_ffff8140000"])
def test_an_address_that_is_no_number(table, address):
    """A sign does not make one."""
    with pytest.raises(RequirementError, match="not in the format"):
        table(KALLSYMS.replace("ffffffff81400000", address)).find((), ["jiffies"])
