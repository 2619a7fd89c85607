"""The settings of a verb: from -c FILE, the platform's file, or the environment alone."""

from __future__ import annotations

import argparse
import os

from syncd.config import Settings
from worker_glue.running.settings import load as _load


def load(args: argparse.Namespace) -> Settings:
    """Return the settings for a verb's arguments (`args.config`: a path, or None). Raises ConfigError."""
    return _load(args.config, os.environ)
