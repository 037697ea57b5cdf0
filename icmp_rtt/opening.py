# SPDX-License-Identifier: GPL-2.0-only
"""What a start reads before anything is loaded: the BPF object, and what the kernel offers."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from icmp_rtt import selftest, stages
from icmp_rtt.background import Background
from icmp_rtt.errors import IcmpRttError
from icmp_rtt.kernel.listing import Listing
from icmp_rtt.kernel.memory import give_memory_back
from icmp_rtt.kernel.symbols import Symbols
from icmp_rtt.privileges import check_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from icmp_rtt.kernel.facts import KernelFacts
    from icmp_rtt.loader import Loader
    from icmp_rtt.options import Options
    from icmp_rtt.selftest import Loopback

__all__ = ("Opened", "opening")


@contextlib.contextmanager
def opening(options: Options) -> Iterator[Opened]:
    """Begin to read; what the block does until it asks for the result takes no time of its own.

    The block is the place to import the rest of the program in: the kernel is read by libbpf
    and by the kernel itself, which leave Python's lock alone.

    Raises:
        IcmpRttError: privileges, libbpf or processes are missing, in one line.
    """
    check_privileges()
    proof = selftest.loopback(options.families) if options.self_test else contextlib.nullcontext()
    with proof as loopback:  # comes before any thread: see there
        opened = Opened(options, loopback)
        try:
            yield opened
        finally:
            opened.close()


class Opened:
    """A kernel that is being read, by threads.

    Args:
        loopback: what a plan is to be proved with; None if it is not.

    Attributes:
        loopback: the same.
        symbols: names of kernel functions, read when first asked for.

    Raises:
        RequirementError: there is no libbpf that will do.
    """

    def __init__(self, options: Options, loopback: Loopback | None) -> None:
        self.loopback = loopback
        self.symbols = Symbols()
        self._options = options
        self._loader: Loader | None = None
        give_memory_back()
        self._listing = Listing(self.symbols, stages.functions(options.families))
        try:
            # Read while the kernel lists its symbols; by this thread, which imports more of the
            # same: of an archive Python 3.9 gives one thread what another has half imported.
            from icmp_rtt.kernel.facts import read_facts
            from icmp_rtt.kernel.libbpf import Libbpf

            self._lib = Libbpf(options.libbpf, options.verbose)
        except BaseException:
            self._listing.wait()
            self.symbols.close()
            raise
        read = partial(read_facts, self._lib, self._listing, options.btf)
        self._facts = Background(read, "facts")

    def read(self) -> tuple[Loader, KernelFacts]:
        """The loader of the object to use, and what the kernel has of what it may ask for.

        Raises:
            IcmpRttError: the object, BTF or kallsyms cannot be had, in one line.
        """
        from icmp_rtt.loader import open_loader  # with all that it brings: read meanwhile

        if self._options.verbose:
            self._facts.wait()  # libbpf's words are of both, else
        try:
            loader = open_loader(self._lib, self._options.object, self._options.btf)
            self._loader = loader
        except IcmpRttError:
            if self._options.btf is not None:
                self._facts.result()  # with a --btf that will not do no object can be opened
            raise
        finally:  # what is closed after an error is not to be in use
            self._facts.wait()
            self._listing.wait()
        return loader, self._facts.result()

    def close(self) -> None:
        """Wait for the threads, and close what was opened for nothing."""
        self._facts.wait()
        self._listing.wait()
        if self._loader is not None:
            self._loader.close()
