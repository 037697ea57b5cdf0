# SPDX-License-Identifier: GPL-2.0-only
"""libbpf's functions: declared, called, their failures turned into errors.

The raw prototypes live here alone; the other modules of this folder build on
``Libbpf.call``. Knows nothing of our object, its maps or its programs.
"""

from __future__ import annotations

import contextlib
import ctypes
from errno import EINVAL
from typing import TYPE_CHECKING, Any

from icmp_rtt.errors import LibbpfError, RequirementError
from icmp_rtt.kernel.library import function_of, open_library, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

__all__ = (
    "SAMPLE_CALLBACK",
    "Handle",
    "Libbpf",
    "Log",
    "OpenOptions",
    "RunOptions",
    "btf_bytes",
    "decoded_name",
)

_DEBUG = 2  # enum libbpf_print_level
_KEPT = 1 << 20  # bytes of log
_LONGEST_MESSAGE = 32 << 20  # bytes; the verifier's log ends at 16 MiB
_VA_LIST_SIZE = 32  # bytes; 24 on x86-64

_VOID, _INT, _U32, _SIZE = None, ctypes.c_int, ctypes.c_uint32, ctypes.c_size_t
_PTR, _STR = ctypes.c_void_p, ctypes.c_char_p
SAMPLE_CALLBACK = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _SIZE)
_PRINT_CALLBACK = ctypes.CFUNCTYPE(_INT, _INT, _PTR, _PTR)


class OpenOptions(ctypes.Structure):
    """The part of struct bpf_object_open_opts that is used; ``sz`` tells libbpf where it ends."""

    _fields_ = (
        ("sz", _SIZE),
        ("object_name", _STR),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", _STR),
        ("unused", _U32),
        ("kconfig", _STR),
        ("btf_custom_path", _STR),
    )


class RunOptions(ctypes.Structure):
    """The part of struct bpf_test_run_opts that is used."""

    _fields_ = (
        ("sz", _SIZE),
        ("data_in", _PTR),
        ("data_out", _PTR),
        ("data_size_in", _U32),
        ("data_size_out", _U32),
        ("ctx_in", _STR),
        ("ctx_out", _PTR),
        ("ctx_size_in", _U32),
        ("ctx_size_out", _U32),
        ("retval", _U32),
        ("repeat", _INT),
        ("duration", _U32),
    )


_UNHEARD = _PRINT_CALLBACK()  # no function: libbpf prints nothing


# name: (restype, argtypes). A function that returns a pointer fails with NULL
# and errno, one that returns an int with -errno.
_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (_PTR, (_PRINT_CALLBACK,)),
    "libbpf_num_possible_cpus": (_INT, ()),
    "bpf_object__open_mem": (_PTR, (_STR, _SIZE, ctypes.POINTER(OpenOptions))),
    "bpf_object__load": (_INT, (_PTR,)),
    "bpf_object__close": (_VOID, (_PTR,)),
    "bpf_object__btf": (_PTR, (_PTR,)),
    "bpf_object__next_program": (_PTR, (_PTR, _PTR)),
    "bpf_object__next_map": (_PTR, (_PTR, _PTR)),
    "bpf_program__name": (_STR, (_PTR,)),
    "bpf_program__set_autoload": (_INT, (_PTR, ctypes.c_bool)),
    "bpf_program__fd": (_INT, (_PTR,)),
    "bpf_program__attach": (_PTR, (_PTR,)),
    "bpf_link__fd": (_INT, (_PTR,)),
    "bpf_link__destroy": (_INT, (_PTR,)),
    "bpf_map__name": (_STR, (_PTR,)),
    "bpf_map__fd": (_INT, (_PTR,)),
    "bpf_map__key_size": (_U32, (_PTR,)),
    "bpf_map__value_size": (_U32, (_PTR,)),
    "bpf_map__max_entries": (_U32, (_PTR,)),
    "bpf_map__set_value_size": (_INT, (_PTR, _U32)),
    "bpf_map__set_max_entries": (_INT, (_PTR, _U32)),
    "bpf_map__reuse_fd": (_INT, (_PTR, _INT)),
    "bpf_map__initial_value": (_PTR, (_PTR, ctypes.POINTER(_SIZE))),
    "bpf_map_lookup_elem": (_INT, (_INT, _STR, _PTR)),
    "bpf_map_update_elem": (_INT, (_INT, _STR, _STR, ctypes.c_uint64)),
    "bpf_prog_load": (_INT, (_INT, _STR, _STR, _STR, _SIZE, _PTR)),
    "bpf_prog_test_run_opts": (_INT, (_INT, ctypes.POINTER(RunOptions))),
    "bpf_obj_get_info_by_fd": (_INT, (_INT, _PTR, ctypes.POINTER(_U32))),
    "ring_buffer__new": (_PTR, (_INT, SAMPLE_CALLBACK, _PTR, _PTR)),
    "ring_buffer__poll": (_INT, (_PTR, _INT)),
    "ring_buffer__consume": (_INT, (_PTR,)),
    "ring_buffer__free": (_VOID, (_PTR,)),
    "btf__load_vmlinux_btf": (_PTR, ()),
    "btf__parse": (_PTR, (_STR, _PTR)),
    "btf__raw_data": (_PTR, (_PTR, ctypes.POINTER(_U32))),
    "btf__free": (_VOID, (_PTR,)),
    "btf__find_by_name_kind": (_INT, (_PTR, _STR, _U32)),
    "btf__type_by_id": (_PTR, (_PTR, _U32)),
    "btf__name_by_offset": (_STR, (_PTR, _U32)),
}


_KEEP_FOREVER: list[Log] = []


class Log:
    """What libbpf said since the last ``clear``, the verifier's log included.

    libbpf prints through one function for the whole process, and may do so at
    any time: an instance must never be collected once its callback is set.

    Args:
        verbose: keep debug messages, too.
    """

    def __init__(self, verbose: bool) -> None:
        self._verbose = verbose
        self._text = bytearray()
        self._cut = False
        self._buffer = ctypes.create_string_buffer(4096)
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.restype = _INT
        self._vsnprintf.argtypes = (_PTR, _SIZE, _PTR, _PTR)
        self.callback = _PRINT_CALLBACK(self._print)

    def clear(self) -> None:
        """Forget everything."""
        del self._text[:]
        self._cut = False

    def text(self) -> str:
        """Everything said, or the last MiB of it."""
        start = "[the beginning of this log is left out]\n" if self._cut else ""
        return start + self._text.decode("utf-8", "replace")

    def _print(self, level: int, form: int, arguments: int) -> int:
        if level >= _DEBUG and not self._verbose:
            return 0
        buffer, size = self._buffer, len(self._buffer)
        # vsnprintf uses a va_list up: put its first bytes, where x86-64 and
        # arm64 keep their place in it, back for the second try.
        place = ctypes.string_at(arguments, _VA_LIST_SIZE)
        length = self._vsnprintf(buffer, size, form, arguments)
        if length >= size:
            ctypes.memmove(arguments, place, _VA_LIST_SIZE)
            size = min(length + 1, _LONGEST_MESSAGE)
            buffer = ctypes.create_string_buffer(size)
            self._vsnprintf(buffer, size, form, arguments)
        self._text += buffer.value
        if len(self._text) > _KEPT:
            del self._text[:-_KEPT]
            self._cut = True
        return 0


class Libbpf:
    """An opened libbpf.

    Args:
        path: the library; None for the one that came with this package, or else the
            system's libbpf.so.1.
        verbose: keep all that libbpf says in ``log``, debug messages too. Otherwise it says
            nothing but inside ``heard``: it has 11,000 messages for one start, and each
            would be a call of Python.

    Attributes:
        version: major and minor number.
        log: what libbpf was heard to say during the last ``call``.
        listening: whether it is.

    Raises:
        RequirementError: there is none, it is too old, or it is something else.
    """

    def __init__(self, path: str | None = None, verbose: bool = False) -> None:
        library = open_library(path)
        self.version = version_of(library)
        self._functions: dict[str, Callable[..., Any]] = {}
        for name, (restype, argtypes) in _PROTOTYPES.items():
            function = function_of(library, name)
            function.restype = restype
            function.argtypes = argtypes
            self._functions[name] = function
        self.log = Log(verbose)
        _KEEP_FOREVER.append(self.log)
        self._verbose = verbose
        self._listen(verbose)

    @contextlib.contextmanager
    def heard(self) -> Iterator[None]:
        """Inside it errors have libbpf's words; only while no other thread is in libbpf."""
        self._listen(True)
        try:
            yield
        finally:
            self._listen(self._verbose)

    def raw(self, name: str) -> Callable[..., Any]:
        """The bare function ``name``: for one that cannot fail, or one called very often."""
        return self._functions[name]

    def call(self, name: str, *arguments: Any, about: str = "", allow: tuple[int, ...] = ()) -> int:
        """Call ``name`` and return what it returned, a number or the address behind a pointer.

        Args:
            about: what the call is about, for the error.
            allow: errnos that are no failure here; ``-errno`` is returned for them.

        Raises:
            LibbpfError: the call failed.
        """
        self.log.clear()
        ctypes.set_errno(0)
        result: int | None = self._functions[name](*arguments)
        if _PROTOTYPES[name][0] is _PTR:
            if result:
                return result
            code = ctypes.get_errno() or EINVAL
        else:
            if result is None or result >= 0:
                return result or 0
            code = -result
        if code in allow:
            return -code
        raise LibbpfError(f"{name}({about})" if about else name, code, self.log.text())

    def _listen(self, on: bool) -> None:
        self.listening = on
        self.raw("libbpf_set_print")(self.log.callback if on else _UNHEARD)

    def possible_cpus(self) -> int:
        """Number of CPUs that this kernel may ever have.

        Raises:
            RequirementError: /sys does not tell.
        """
        try:
            return self.call("libbpf_num_possible_cpus")
        except LibbpfError as error:
            raise RequirementError(
                "the number of CPUs is not to be had: mount /sys", error.log
            ) from error


class Handle:
    """One of libbpf's structs, until it is freed; a context manager that frees it.

    Args:
        lib: the library that made it.
        address: where it lies.
        name: what to call it in errors.
    """

    def __init__(self, lib: Libbpf, address: int, name: str) -> None:
        self.lib = lib
        self.name = name
        self._address: int | None = address

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> int:
        """Where it lies.

        Raises:
            ValueError: it has been freed.
        """
        if self._address is None:
            raise ValueError(f"{self.name} is closed")
        return self._address

    def close(self) -> None:
        """Free it; closing twice is harmless."""
        address, self._address = self._address, None
        if address is not None:
            self._free(address)

    def _free(self, address: int) -> None:
        """Nothing, unless said otherwise: it is part of another struct."""


def btf_bytes(lib: Libbpf, address: int, about: str) -> bytes:
    """The raw bytes of a ``struct btf``.

    Raises:
        LibbpfError: there is no memory for them.
    """
    size = _U32()
    data = lib.call("btf__raw_data", address, ctypes.byref(size), about=about)
    return ctypes.string_at(data, size.value)


def decoded_name(raw: bytes | None) -> str:
    """A name out of libbpf's hands: ASCII in sound files, and no reason to fail in others."""
    return (raw or b"").decode("ascii", "backslashreplace")
