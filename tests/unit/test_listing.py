# SPDX-License-Identifier: GPL-2.0-only
"""What kallsyms has of the names that are asked for, looked up while something else goes on."""

import threading

import pytest

from icmp_rtt.errors import RequirementError
from icmp_rtt.kernel.listing import KPROBES, Listing
from icmp_rtt.kernel.symbols import Symbols

FUNCTIONS = ("ip_rcv", "icmp_rcv")
PAGES = ("page_offset_base", "vmemmap_base")


def listing(tmp_path, text):
    """Of such a file."""
    path = tmp_path / "kallsyms"
    path.write_text(text)
    return Listing(Symbols(str(path)), FUNCTIONS)


def table(**addresses):
    """The lines of variables."""
    return "".join(f"{address:016x} D {name}\n" for name, address in addresses.items())


def test_functions_are_those_of_exactly_this_name(tmp_path):
    """What else begins alike is another one."""
    found = listing(tmp_path, "ffffffff81000000 T ip_rcv\nffffffff81000010 t icmp_rcv.cold\n")
    assert found.functions == {"ip_rcv"}
    assert found.variables == {}
    assert not found.is_empty


@pytest.mark.parametrize("use", [PAGES, KPROBES])
def test_variables_are_of_use_together_alone(tmp_path, use):
    """Of one use all or none; one that is hidden is as good as missing."""
    whole = {name: 0xFFFFFFFF82000000 + 8 * i for i, name in enumerate(use)}
    assert listing(tmp_path, table(**whole)).variables == whole
    assert listing(tmp_path, table(**{**whole, use[-1]: 0})).variables == {}
    assert listing(tmp_path, table(**{n: whole[n] for n in use[1:]}, other=1)).variables == {}


def test_a_list_without_functions_is_not_an_empty_one(tmp_path):
    """The one is another kernel's, the other is hidden by what is mounted over it."""
    assert not listing(tmp_path, "ffffffff81000000 T ip_rc\n").is_empty
    assert listing(tmp_path, "").is_empty


def test_an_unreadable_list_is_told_when_it_is_asked_for(tmp_path):
    """Not before: whoever asks for it has begun with something else."""
    found = Listing(Symbols(str(tmp_path / "none")), FUNCTIONS)
    found.wait()
    for ask in (lambda: found.functions, lambda: found.variables, lambda: found.is_empty):
        with pytest.raises(RequirementError, match="none"):
            ask()


def test_it_is_looked_up_meanwhile():
    """By another thread."""
    go_on, threads = threading.Event(), []

    class Slow(Symbols):
        def find(self, functions, variables):
            assert go_on.wait(60)
            threads.append(threading.current_thread())
            return set(functions), {}

    found = Listing(Slow(), FUNCTIONS)
    go_on.set()
    assert found.functions == {*FUNCTIONS}
    assert threads != [threading.current_thread()]
