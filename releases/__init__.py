"""Past releases of the Spyre plugins: their environments, the kept results of their runs, and docs/releases.md.

``requirements/releases.txt`` has a line for each release. ``environments.py`` needs only the standard library.
"""
