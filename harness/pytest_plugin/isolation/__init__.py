"""Run cases in other processes, so that a crash or a hang affects one case only.

``plugin.py`` is the pytest plugin in the collecting process; ``worker.py`` controls one engine process;
``launching.py`` starts it, as a new process or as a fork of ``preloaded.py``, of which ``parents.py`` keeps one a run;
``child.py`` runs in the engine process: a pytest session that receives the tests to run and returns pytest's reports as
JSON. So tests are run and checked by the same code in every mode, and all reports are made of the same values.
"""
