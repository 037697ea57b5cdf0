# SPDX-License-Identifier: GPL-2.0-only
"""What a start reads before anything is loaded: the BPF object, and what the kernel offers."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from icmp_rtt import stages
from icmp_rtt.kernel.facts import read_facts
from icmp_rtt.kernel.libbpf import Libbpf
from icmp_rtt.loader import open_loader

if TYPE_CHECKING:
    from icmp_rtt.kernel.facts import KernelFacts
    from icmp_rtt.kernel.symbols import Symbols
    from icmp_rtt.loader import Loader
    from icmp_rtt.options import Options

__all__ = ("open_object",)


def open_object(options: Options, symbols: Symbols) -> tuple[Loader, KernelFacts]:
    """The loader of the object to use, and what the running kernel has of what it may ask for.

    Both at once: the one is a matter of files and of Python, the other of libbpf and of
    the kernel, which leave Python's lock alone.

    Raises:
        IcmpRttError: the object, libbpf, BTF or kallsyms cannot be had, in one line.
    """
    lib = Libbpf(options.libbpf, options.verbose)
    found: list[KernelFacts | BaseException] = []

    def read() -> None:
        try:
            functions = stages.functions(options.families)
            found.append(read_facts(lib, symbols, functions, options.btf))
        except BaseException as error:  # noqa: BLE001 - raised below
            found.append(error)

    thread = threading.Thread(target=read, name="icmp-rtt facts")
    try:
        thread.start()
    except RuntimeError:  # no more threads to be had: one after the other, then
        read()
    try:
        loader = open_loader(lib, options.object, options.btf)
    finally:
        if thread.ident is not None:
            thread.join()
    kernel = found[0]
    if isinstance(kernel, BaseException):
        raise kernel
    return loader, kernel
