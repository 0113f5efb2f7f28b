"""Fork processes from a process that has already imported all modules, which is faster than starting new ones.

This works on Linux only. ``server.py`` is the loop of the process that forks, the fork server. ``process.py`` is the
handle of a fork in the process that requests it, the client. ``wire.py`` sends messages between the two. ``name.py``
sets the command line that ``ps`` shows for a fork.
"""
