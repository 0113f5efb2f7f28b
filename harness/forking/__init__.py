"""Processes that are forked from one that has imported everything already, instead of started anew.

``server.py`` is the loop of the process that is forked from, ``process.py`` the handle of one fork elsewhere,
``wire.py`` what goes between the two, ``name.py`` what a fork is called in a list of processes. Only on Linux.
"""
