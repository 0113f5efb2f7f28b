"""Run the command ``spyre-cb`` when Python is started with ``python -m harness``."""

import sys

from harness.cli import main

sys.exit(main())
