"""Tests of JSON objects in which no key occurs twice."""

import json

import pytest

from harness.utils.json_objects import RepeatedKeyError, unique_keys


def test_an_object_without_repeated_keys_is_read_in_order() -> None:
    read = json.loads('{"b": 1, "a": {"b": 2}}', object_pairs_hook=unique_keys)
    assert read == {"b": 1, "a": {"b": 2}}
    assert list(read) == ["b", "a"]


def test_a_repeated_key_is_named() -> None:
    with pytest.raises(RepeatedKeyError) as error:
        json.loads('[{"c": {"a": 1, "b": 2, "a": 1}}]', object_pairs_hook=unique_keys)
    assert error.value.key == "a"
