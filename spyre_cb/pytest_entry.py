"""What pytest loads wherever this package is installed: options, and nothing more until a suite of ours is named.

A session is ours if a suite is named on its command line, or lies in a folder named there, or where the ini setting
``cb_suites`` says, or if an option ``--cb-…`` is given. Then, and only then, the harness is imported, and its plugin
registered (``harness/pytest_plugin/session.py``).
"""

from collections.abc import Generator
from pathlib import Path

import pytest

from spyre_cb.look import SUITE_SUFFIXES, has_suite
from spyre_cb.naming import INI_NAME, named_by, named_key
from spyre_cb.options import FORMER, OPTIONS, add_options

SESSION = "spyre-cb-session"
"""The name of the plugin of a session that is ours."""


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)
    parser.addini(INI_NAME, "folders with suites of spyre-cb: every YAML file in them is one", type="paths", default=[])


@pytest.hookimpl(wrapper=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, None, None]:
    """Say what an option is called now, once every plugin and conftest that may have one of that name is loaded."""
    yield
    typed = [argument.partition("=")[0] for argument in args]
    if not any(name in FORMER for name in typed):
        return
    options, unknown = parser.parse_known_and_unknown_args(args)
    former = [name for name in (each.partition("=")[0] for each in unknown) if name in FORMER]
    if former and _may_be_ours(early_config, typed, options.file_or_dir):
        name = former[0]
        raise pytest.UsageError(f"{name} is called {FORMER[name]} now (every option of spyre-cb begins with --cb-)")


def _may_be_ours(config: pytest.Config, typed: list[str], paths: list[str]) -> bool:
    """Whether the command line looks like one for our suites, as far as that can be told before it is parsed."""
    if config.getini(INI_NAME) or any(name == option.in_pytest for name in typed for option in OPTIONS):
        return True
    named = [config.invocation_params.dir / path.partition("::")[0] for path in paths]
    return any(path.suffix in SUITE_SUFFIXES or has_suite(path, _is_hidden) for path in named)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """For ``-n auto``, before anything is configured; None leaves it to xdist."""
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
