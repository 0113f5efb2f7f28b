"""Tests of which HTTP requests of cases are sent by the official OpenAI client."""

from typing import Any

import pytest

from harness.suites.schema.actions import RawHttp


@pytest.mark.parametrize(
    ("fields", "by_openai"),
    [
        ({"content": {"a": 1}}, True),
        ({"content": {"a": 1}, "path": "/v1/chat/completions"}, True),
        ({"method": "GET", "path": "/v1/models"}, True),
        ({"method": "GET", "path": "/health"}, False),
        ({"method": "DELETE", "path": "/v1/models"}, False),
        ({"content": [1]}, False),
        ({"body": "{"}, False),
        ({"content": {"a": 1}, "headers": {"Authorization": "Bearer wrong"}}, False),
        ({"content": {"a": 1}, "raw": True}, False),
    ],
)
def test_the_openai_client_sends_what_it_can_express(fields: dict[str, Any], by_openai: bool) -> None:
    assert RawHttp.model_validate(fields).by_openai is by_openai
