"""The pytest plugin that is loaded in every session of an environment in which this package is installed.

By itself, this plugin only adds options. If the session has suites of spyre-cb, it imports the harness and registers
the plugin of such sessions (``harness/pytest_plugin/session.py``). A session has suites if the command line names a
suite or a folder with a suite, if pytest collects a folder of the ini setting ``cb_suites``, or if an option ``--cb-…``
is given.
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from spyre_cb.look import SUITE_SUFFIXES, has_suite
from spyre_cb.naming import INI_NAME, named_by, named_key
from spyre_cb.options import FORMER, OPTIONS, add_options

SESSION = "spyre-cb-session"
"""The name under which the plugin for sessions with suites is registered."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)
    about = "folders with suites of spyre-cb, in which every YAML file is a suite"
    parser.addini(INI_NAME, about, type="paths", default=[])


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Raise pytest.UsageError for an option with its former name. The message has the present name.

    The check runs after all plugins and conftest files are loaded, because one of them may define an option with the
    former name.
    """
    yield
    typed = [argument.partition("=")[0] for argument in args]
    if not any(name in FORMER for name in typed):
        return
    options, unknown = parser.parse_known_and_unknown_args(args)
    former = [name for name in (each.partition("=")[0] for each in unknown) if name in FORMER]
    if former and _may_be_ours(early_config, typed, options.file_or_dir):
        name = former[0]
        raise pytest.UsageError(f"{name} is now {FORMER[name]} (every option of spyre-cb begins with --cb-)")


def _may_be_ours(config: pytest.Config, typed: list[str], paths: list[str]) -> bool:
    """Return whether the command line seems to be for suites of spyre-cb. pytest has not completely parsed it yet.

    ``typed`` has the arguments without the values of options, ``paths`` the files and folders among the arguments.
    """
    if config.getini(INI_NAME) or any(name == option.in_pytest for name in typed for option in OPTIONS):
        return True
    named = [config.invocation_params.dir / path.partition("::")[0] for path in paths]
    return any(path.suffix in SUITE_SUFFIXES or has_suite(path, _is_hidden) for path in named)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Return the number of workers for ``-n auto``, or None to let xdist decide. Called before pytest_configure."""
    isolated = config.option.cb_isolation or getattr(config.option, "forked", False)
    if not isolated or named_by(config) is None:
        return None
    from harness.pytest_plugin.isolation.worker_count import useful_workers

    return useful_workers()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    named = named_by(config)
    if named is None:
        return
    config.stash[named_key] = named
    from harness.pytest_plugin import session

    config.pluginmanager.register(session, SESSION)
