"""The documentation site: hooks of mkdocs, and pages that are generated while it is built.

``make docs`` builds it. The hand-written pages are in ``docs/``. Generated pages are never written to the repository:
``catalogue/`` has a page for each suite and each requirement, ``reference/`` the commands and the suite format.
"""
