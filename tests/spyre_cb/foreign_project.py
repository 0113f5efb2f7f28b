"""An example project that is unrelated to this one: YAML files, tests and packages, as a plugin team may have them.

Its packages ``harness`` and ``engine`` have the same names as ours. Its tests print what a plugin can change for other
tests: environment variables, garbage collection, modules, options and plugins. This output is compared. The plugin that
pytest loads from this package is left out of it.
"""

from pathlib import Path

INI = """\
[pytest]
addopts =
    -v -rA --driver=Remote --randomly-seed=7
    --cov=shop --cov-report=term
    --alluredir=allure-results --clean-alluredir
asyncio_mode = auto
pythonpath = .
markers =
    slow: takes long
"""
YAML = {
    "compose.yaml": "services:\n  web:\n    image: nginx\n    environment: {kind: output}\n",
    "mkdocs.yml": "site_name: Shop\nnav:\n  - Home: index.md\nmarkdown_extensions:\n  - toc: {permalink: true}\n",
    ".pre-commit-config.yaml": "repos:\n- repo: local\n  hooks: []\n",
    ".github/dependabot.yaml": "version: 2\nupdates: []\n",
    ".github/workflows/ci.yaml": "name: CI\non: [push]\njobs:\n  test:\n    runs-on: ubuntu-latest\n    steps: []\n",
    "charts/shop/Chart.yaml": "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
    "charts/shop/values.yaml": "replicaCount: 1\nimage: {repository: shop}\n",
    "charts/shop/templates/service.yaml": """\
{{- if .Values.service }}
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}
spec: {{ toYaml .Values.service | nindent 2 }}
{{- end }}
""",
    "charts/shop/tests/service_test.yaml": """\
suite: the service
templates: [service.yaml]
tests:
  - it: is not there by default
    asserts: [{hasDocuments: {count: 0}}]
""",
    "deploy/pipeline.yml": "kind: pipeline\ntype: docker\nname: default\nsteps: []\n",
    "deploy/invalid.yaml": "a: [1, 2\nb: }{\n",
}
MODULES = {
    "shop/__init__.py": "",
    "shop/cart.py": """\
def total(prices, discount=0):
    if discount:
        return sum(prices) - discount
    return sum(prices)
""",
    "harness/__init__.py": "WHOSE = 'the harness of the shop'\n",
    "engine/__init__.py": "WHOSE = 'the engine of the shop'\n",
    "checkpoints.py": "WHOSE = 'the checkpoints of the shop'\n",
}
TESTS = {
    "tests/test_cart.py": """\
import random

import pytest

from shop.cart import total


@pytest.fixture
def broken():
    raise RuntimeError("no such shop")


@pytest.mark.parametrize("prices", [(), (1, 2), (3,)])
def test_total(prices):
    print("prices", prices, random.random())
    assert total(prices) == sum(prices)


def test_discount_is_wrong():
    assert total([3, 4], discount=2) == 4


def test_error_in_a_fixture(broken):
    pass


@pytest.mark.slow
@pytest.mark.skip(reason="takes long")
def test_skipped():
    pass


@pytest.mark.xfail(reason="known")
def test_expected_to_fail():
    assert total([1]) == 2
""",
    "tests/test_async.py": """\
import asyncio


async def test_awaited():
    await asyncio.sleep(0)


async def test_awaited_and_wrong():
    await asyncio.sleep(0)
    assert asyncio.get_running_loop() is None, "in a loop"
""",
    "tests/test_snapshot.py": """\
def test_as_committed(snapshot):
    assert {"total": 3} == snapshot


def test_not_as_committed(snapshot):
    assert {"total": 4} == snapshot
""",
    "tests/__snapshots__/test_snapshot.ambr": """\
# serializer version: 1
# name: test_as_committed
  dict({
    'total': 3,
  })
# ---
# name: test_not_as_committed
  dict({
    'total': 5,
  })
# ---
""",
    "tests/test_property.py": """\
import allure
from hypothesis import given, settings, strategies


@allure.title("Addition")
@settings(derandomize=True, database=None)
@given(strategies.integers())
def test_addition(number):
    with allure.step("add"):
        assert number + 1 > number
""",
    "tests/test_surroundings.py": """\
import gc
import os
import sys
import threading

import checkpoints
import engine
import harness

OF_SPYRE_CB = {"spyre_cb", "spyre-cb"}
VARIABLES = (
    "OMP_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "HF_HUB_DISABLE_PROGRESS_BARS",
    "HF_DEACTIVATE_ASYNC_LOAD",
    "SPYRE_CB_START_FAILURES",
)


def test_everything_is_as_it_was(request):
    option, plugins = request.config.option, request.config.pluginmanager
    print({name: os.environ.get(name) for name in VARIABLES})
    print(gc.isenabled(), gc.get_freeze_count(), gc.get_threshold(), threading.active_count())
    print(harness.WHOSE, engine.WHOSE, checkpoints.WHOSE)
    print(sorted({name.partition(".")[0] for name in sys.modules} - OF_SPYRE_CB))
    print(sorted(request.config.getini("markers")))
    print(option.continue_on_collection_errors, option.allure_report_dir, option.driver)
    loaded = {name for name, plugin in plugins.list_name_plugin() if plugin and not name.isdigit()}
    print(sorted(loaded - OF_SPYRE_CB))
    assert False, "so that it is shown"
""",
    "broken/cannot_be_collected.py": "import no_such_module\n",
}


def write_project(folder: Path) -> None:
    """Write the example project to a folder that does not exist yet."""
    for name, text in {"pytest.ini": INI, **YAML, **MODULES, **TESTS}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
