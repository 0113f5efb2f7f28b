"""Tests of marker expressions (``-m``) that contain unknown markers."""

import pytest

from harness.suites.markers import MARKERS, explain_unknown, unknown_names

KNOWN = {"cb", "cpu", "spyre", "device"}


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "   ",
        "cb",
        "cpu and cb",
        "not spyre",
        "not(spyre)",
        "(cb or spyre) and not (cpu)",
        "((cb))",
        "cb\tand\ncpu",
        'device(name="spyre")',
        "device(name='aiu', cards=4) and cb",
        "cb and not device(cards=4)",
        'device(name="a card (the new one)")',
        "device(name='it)')",
    ],
)
def test_an_expression_of_known_markers_names_nothing_unknown(expression: str) -> None:
    assert unknown_names(expression, KNOWN) == []


@pytest.mark.parametrize(
    ("expression", "unknown"),
    [
        ("spire", ["spire"]),
        ("cpu and cbb", ["cbb"]),
        ("not(spire)", ["spire"]),
        ("(cb or (spire and not cpuu))", ["spire", "cpuu"]),
        ("cpuu or cb or cpuu", ["cpuu"]),
        ("CB", ["CB"]),
        ("cb and device-x", ["device-x"]),
        ("devise(cards=4) and cb", ["devise"]),
        ("andy or nothing", ["andy", "nothing"]),
        ("b or a", ["b", "a"]),
        ("cb,cpu", ["cb,cpu"]),
    ],
)
def test_names_that_are_no_markers_are_found_in_order_and_once(expression: str, unknown: list[str]) -> None:
    assert unknown_names(expression, KNOWN) == unknown


def test_one_unknown_name_is_explained_with_what_was_meant() -> None:
    assert explain_unknown(["spire"], KNOWN) == (
        "-m: 'spire' (did you mean 'spyre'?) is not a marker; the markers are: cb, cpu, device, spyre"
    )


def test_a_name_like_no_other_gets_no_guess() -> None:
    assert (
        explain_unknown(["quantum"], KNOWN) == "-m: 'quantum' is not a marker; the markers are: cb, cpu, device, spyre"
    )


def test_several_unknown_names_are_explained_together() -> None:
    assert explain_unknown(["spire", "quantum"], {"spyre"}) == (
        "-m: 'spire' (did you mean 'spyre'?), 'quantum' are not markers; the markers are: spyre"
    )


def test_each_marker_of_the_harness_is_known_and_described() -> None:
    assert unknown_names(" or ".join(MARKERS), MARKERS) == []
    assert all(MARKERS.values())
