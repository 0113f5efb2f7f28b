"""``python -m harness`` is ``spyre-cb``."""

import sys

from harness.cli import main

sys.exit(main())
