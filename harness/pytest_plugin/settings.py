"""The settings of a run, which follow from pytest's options."""

import os
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass, field

import pytest

from checkpoints import test_models
from harness.cases.blessing import Blessing
from harness.drivers.base import Driver, UnavailableError
from harness.drivers.engine_pool import EnginePool
from harness.drivers.registry import DEFAULT, OVER_HTTP, DriverOptionError, DriverOptions, make_driver
from harness.references import Oracle
from harness.suites.schema import Policy
from harness.utils.text import plural

_NEEDS_A_MODEL = "cannot be combined with --cb-simulate: it needs a server, which runs a model"


@dataclass(frozen=True)
class Count:
    """The number of cases, and the number of tests, in one suite file. A test is a case in one configuration."""

    cases: int
    tests: int

    def __str__(self) -> str:
        configurations = plural(self.tests // self.cases, "configuration")
        return f"{plural(self.cases, 'case')} x {configurations} = {plural(self.tests, 'test')}"


@dataclass(frozen=True)
class Settings:
    """The settings of a run. ``counts``, ``digests`` and ``left_out`` are filled in while pytest collects the tests.

    ``oracle`` provides reference outputs. ``policy`` is the policy for comparing outputs, None for the default policy.
    ``counts`` has the number of cases and tests of each suite file. ``digests`` has a digest of the text and the golden
    tables of each suite file, and a digest of the lists of known failures. ``left_out`` has, for each marker such as
    ``slow``, how many tests were deselected because ``-m`` does not name it.
    """

    driver: Driver
    engines: EnginePool
    models: tuple[str, ...]
    blessing: Blessing | None
    max_tests: int | None
    oracle: Oracle
    policy: Policy | None
    counts: dict[str, Count] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def from_options(cls, option: Namespace, driver: Driver, engines: EnginePool) -> "Settings":
        """Return the settings from pytest's options. Raises pytest.UsageError for an invalid model list."""
        try:
            models = test_models()
        except ValueError as error:
            raise pytest.UsageError(str(error)) from error
        blessing = Blessing(driver.describe()) if option.cb_bless else None
        policy = Policy.model_validate({"name": option.cb_policy}) if option.cb_policy else None
        oracle = Oracle(may_compute=_may_compute(option.cb_references))
        return cls(driver, engines, models, blessing, option.cb_max_tests, oracle, policy)


def _may_compute(chosen: str | None) -> bool:
    """Return whether to compute missing reference outputs.

    ``chosen`` is the value of ``--cb-references``, None if the option is not given. The default is False if the
    environment variable CI is set, because missing files must be reported in CI.
    """
    return chosen == "compute" or (chosen is None and not os.environ.get("CI"))


def draws_failures(config: pytest.Config) -> bool:
    """Return whether the text of a failure includes a time-line: with ``--cb-plot``, or by default with ``-s``."""
    plot = config.option.cb_plot
    return bool(config.option.capture == "no" if plot is None else plot)


settings_key = pytest.StashKey[Settings]()


def driver_from_options(option: Namespace) -> Driver:
    """Return the driver that the options name.

    Raises pytest.UsageError if the driver can't be used, or can't be combined with another option on the command line.
    """
    url, start, shape = option.cb_server_url, option.cb_serve, option.cb_server_shape
    name = option.cb_driver or DEFAULT
    if name != OVER_HTTP or option.cb_simulate:
        for other, given in (("--cb-server-url", url), ("--cb-serve", start), ("--cb-server-shape", shape)):
            if given is not None and name != OVER_HTTP:
                raise pytest.UsageError(f"{other} is only allowed with --cb-driver {OVER_HTTP}")
            if given is not None:
                raise pytest.UsageError(f"{other} {_NEEDS_A_MODEL}")
    if name == OVER_HTTP and option.cb_simulate:
        raise pytest.UsageError(f"--cb-driver {name} {_NEEDS_A_MODEL}")
    try:
        return make_driver(name, DriverOptions(option.cb_simulate, option.cb_attention, url, start, shape))
    except DriverOptionError as error:
        raise pytest.UsageError(f"--cb-{error.option}: {error}") from error
    except UnavailableError as error:
        raise pytest.UsageError(f"--cb-driver {name}: {error}") from error
