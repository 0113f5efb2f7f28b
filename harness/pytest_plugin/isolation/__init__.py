"""Run cases in other processes, so that a crash or a hang affects only one case (``--cb-isolation``).

Pytest's process or, with xdist, each worker collects the tests. Each engine runs in another process, the child:

- ``plugin.py`` is the pytest plugin in the collecting process. ``worker.py`` controls one child from there.
- ``launching.py`` starts a child, as a new process or as a fork of the preloaded process.
- ``preloaded.py`` is the preloaded process, which has imported all modules. ``parents.py`` starts it once per run.
- ``child.py`` is the child: a pytest session that receives ids of tests, runs them, and returns pytest's reports.

With and without isolation, the same code runs and checks the tests.
"""
