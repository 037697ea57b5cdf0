# SPDX-License-Identifier: GPL-2.0-only
"""The ring buffer: records out of the kernel, as bytes, in the order they were written."""

from __future__ import annotations

from ctypes import string_at
from errno import ECANCELED, EINTR

from icmp_rtt.kernel.libbpf import SAMPLE_CALLBACK, Handle, Libbpf

__all__ = ("RingBuffer",)


class RingBuffer(Handle):
    """The reading end of a ring buffer map.

    Args:
        fd: file descriptor of the map. The map must outlive this.
        limit: records returned by one call at most, which bounds memory: half a MiB with
            stacks. What is left over stays in the kernel for the next call.

    Raises:
        LibbpfError: it is no ring buffer, or out of reach.
    """

    def __init__(self, lib: Libbpf, fd: int, limit: int = 256) -> None:
        self._records: list[bytes] = []
        self._error: BaseException | None = None
        self._limit = limit
        self._callback = SAMPLE_CALLBACK(self._take)
        address = lib.call("ring_buffer__new", fd, self._callback, None, None)
        super().__init__(lib, address, "ring buffer")

    def poll(self, timeout_ms: int) -> list[bytes]:
        """What is there by now, or comes before the timeout or a signal; it may be nothing.

        The kernel wakes us only once much has gathered: what came meanwhile is
        found at the end of the wait.

        Raises:
            LibbpfError: polling failed.
            BaseException: whatever was raised while a record was taken over;
                records taken before it are returned by the next call.
        """
        return self.consume() or self._read("ring_buffer__poll", timeout_ms) or self.consume()

    def consume(self) -> list[bytes]:
        """As ``poll``, without waiting."""
        return self._read("ring_buffer__consume")

    def _free(self, address: int) -> None:
        self.lib.raw("ring_buffer__free")(address)

    def _read(self, function: str, *arguments: int) -> list[bytes]:
        self.lib.call(function, self.address, *arguments, allow=(EINTR, ECANCELED))
        error, self._error = self._error, None
        if error is not None:
            raise error
        records = self._records[:]
        self._records.clear()
        return records

    def _take(self, _: int | None, data: int, size: int) -> int:
        """Called by libbpf for each record; a negative number stops it after this one."""
        try:
            self._records.append(string_at(data, size))
            return -ECANCELED if len(self._records) >= self._limit else 0
        except BaseException as error:  # noqa: BLE001 - _read raises it
            self._error = error
            return -ECANCELED
