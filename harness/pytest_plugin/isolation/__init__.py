"""Processes that cases run in, so that a crash or a hang costs one case and not the run.

``plugin.py`` is what pytest knows of it, in the process that collects; ``worker.py`` feeds and watches one
engine process; ``launching.py`` starts it, anew or as a fork of ``preloaded.py``, of which ``parents.py`` keeps one a
run; ``child.py`` is what runs in there: a pytest session of its own that is told which test to run, and sends back the
reports that pytest makes of it, as JSON. So a test is run and judged by the same code in every mode, and every report
is made of the same values.
"""
