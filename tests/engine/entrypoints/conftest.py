"""A server with default settings and its official client. They are shared by all tests of a file."""

from collections.abc import Iterator

import pytest
from openai import OpenAI

from tests.helpers.server_process import SECONDS, Server, eventually, started


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as ready:
        yield ready


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=SECONDS) as ready:
        yield ready


@pytest.fixture
def server_is_left_empty(server: Server) -> Iterator[None]:
    """Check after each test that the server still runs, and that it has no unfinished requests."""
    yield
    eventually(server.is_empty)
    assert server.process.poll() is None
