# SPDX-License-Identifier: GPL-2.0-only
"""Pure renderers: values of the model in, text out."""
