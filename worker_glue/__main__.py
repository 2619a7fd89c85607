"""python -m worker_glue is worker-glue."""

from __future__ import annotations

import sys

from worker_glue.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
