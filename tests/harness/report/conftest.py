"""A browser for the tests of the HTML page of a report."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helpers.browser import started_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from started_browser()
