"""The pytest plugin: suites are collected as tests, run with the engine under test, and reported."""
