"""The documentation site: hooks of mkdocs, and pages that are generated while mkdocs builds the site.

``make docs`` builds the site. The hand-written pages are in ``docs/``. Generated pages are never written to the
repository: ``catalogue/`` generates a page for each suite and each requirement, and ``reference/`` the pages of
commands, of the suite format and of the driver protocol.
"""
