"""These files are suites that are wrong on purpose: test_loader.py reads them, pytest must not."""

collect_ignore_glob = ["*.yaml"]
