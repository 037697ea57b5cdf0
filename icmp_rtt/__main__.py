# SPDX-License-Identifier: GPL-2.0-only
"""``python -m icmp_rtt`` is the command ``icmp-rtt``, and where that begins."""

import signal
import sys

# Until the command looks after its signals itself: an import that is interrupted would
# print where it was.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from icmp_rtt.cli import main  # noqa: E402 - see above

__all__ = ("main",)

if __name__ == "__main__":
    sys.exit(main())
