"""What the tests themselves rely on."""

from itertools import product

from support import covering_sample


def test_covering_sample_has_every_value_and_repeats():
    names, places, empty = list("abcdefg"), [[1], [2], [3]], [{}]
    cases = [
        {"name": name, "place": place, "empty": other}
        for name, place, other in product(names, places, empty)
    ]
    sampled = covering_sample(cases, seed="test")
    assert {cases[row]["name"] for row in sampled} == set(names)
    assert {cases[row]["place"][0] for row in sampled} == {1, 2, 3}
    assert len(sampled) < len(cases) / 2
    assert covering_sample(cases, seed="test") == sampled
