"""Known failures: a file next to the suites, with conditions and reasons. See docs/hardware.md."""
