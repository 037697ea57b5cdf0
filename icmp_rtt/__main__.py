# SPDX-License-Identifier: GPL-2.0-only
"""``python -m icmp_rtt`` is the command ``icmp-rtt``."""

import sys

from icmp_rtt.cli import main

if __name__ == "__main__":
    sys.exit(main())
