"""Known failures: tests that are expected to fail, listed in a file ``known-failures.yaml`` next to the suites.

Each entry names a case, conditions and a reason. docs/hardware.md describes the format.
"""
