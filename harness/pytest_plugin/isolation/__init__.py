"""Run cases in other processes, so that a crash or a hang affects one case only (``--cb-isolation``).

The process that the user started collects the tests. Each engine runs in a process of its own, the child:

- ``plugin.py`` is the pytest plugin in the collecting process. ``worker.py`` is its handle of one child.
- ``launching.py`` starts a child, as a new process or as a fork of the preloaded process.
- ``preloaded.py`` is the preloaded process, which has imported all modules. ``parents.py`` starts one for each run.
- ``child.py`` is the child: a pytest session that receives ids of tests, runs them, and returns pytest's reports.

Tests are run and checked by the same code with and without isolation.
"""
