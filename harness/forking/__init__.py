"""Fork processes from one that has imported everything already, instead of starting new ones. Linux only.

``server.py`` is the loop of the forking process, ``process.py`` the handle of a fork in the requesting process,
``wire.py`` the protocol between them, ``name.py`` sets the name of a fork in process lists.
"""
