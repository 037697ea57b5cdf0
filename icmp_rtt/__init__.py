# SPDX-License-Identifier: GPL-2.0-only
"""Where an ICMP echo's time goes inside the kernel, and where it stops."""

from icmp_rtt import version

__all__ = ("__version__",)

__version__ = version.VERSION
