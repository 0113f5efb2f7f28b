"""The part of spyre-cb that pytest loads in every session, and the data files of the wheel.

This package imports ``harness`` only in sessions that have suites of spyre-cb, because another project can have a
package with the name ``harness`` or ``engine``.
"""
