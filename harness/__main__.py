"""Run ``spyre-cb`` with ``python -m harness``."""

import sys

from harness.cli import main

sys.exit(main())
