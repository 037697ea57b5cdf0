# SPDX-License-Identifier: GPL-2.0-only
"""The version, in a place that can be read without importing anything else."""

VERSION = "0.1.0"
