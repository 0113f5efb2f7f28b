"""The releases of the plugins: their environments, the results that are kept of them, and docs/releases.md.

``requirements/releases.txt`` has a line for each release. ``environments.py`` needs nothing but Python.
"""
