"""Damaged lists of models: members that make a vote, or one line."""

import math

import pytest
from fuzz import bounds
from fuzz.damage import NUMBERS, odd_names, sometimes_damaged
from hypothesis import given
from hypothesis import strategies as st

from ferlab.errors import InputError
from ferlab.inference import model_list

WEIGHTS = (
    *("1", "0.5", "2", "0", "1e308", "1e-300", "1e-310", "nan", "inf", "-1", "-0", "0x1", "1_0"),
    *("\uff11", "\u0663", "1,5", "", "1e", "+1", ".5", "1e400", "9" * 400, *map(str, NUMBERS)),
)
PATHS = (
    *("a.h5", "b c.h5", "./a.h5", "sub/../a.h5", "怒り.h5", "missing.h5", "pretrained:", "~", "/"),
    *("pretrained:../x", "pretrained:none", "a.h5\0", "x" * 300, "y/" * 3000, "folder", "a.h5 #1"),
)
OPTIONS = (
    *("", "pixels=unit", "pixels=raw", "PIXELS=raw", "pixels=", "pixels=odd", "classes=a,b"),
    *("classes=a,a", "classes=,", "classes=" + ",".join("abcdefg"), "architecture=a.h5", "x=1"),
    *("architecture=missing.json", "pixels=raw pixels=raw", "# comment", "classes=a", "\t"),
)


@st.composite
def lists(draw) -> bytes:
    lines = []
    for _ in range(draw(st.integers(0, 5))):
        weight = draw(st.sampled_from(WEIGHTS[:3]) | st.sampled_from(WEIGHTS))
        path = draw(st.sampled_from(PATHS[:4]) | st.sampled_from(PATHS) | odd_names)
        options = draw(st.lists(st.sampled_from(OPTIONS), max_size=3))
        space = draw(st.sampled_from((" ", " ", "\t", "  ", "\u00a0", "")))
        lines.append(space.join([weight, path, *options]))
    lines *= draw(st.sampled_from((1, 1, 1, 2, 2000)))
    text = draw(st.sampled_from(("\n", "\r\n", "\r", "\n\n"))).join(lines)
    encoding = draw(st.sampled_from(("utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")))
    content = text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    return draw(sometimes_damaged(content, chance=5))


@bounds.cases("lists")
@given(content=lists())
def test_damaged_lists_of_models(content):
    with bounds.folder() as folder:
        for name in ("a.h5", "b c.h5", "怒り.h5"):
            (folder / name).touch()
        (folder / "folder").mkdir()
        path = folder / "model_list.txt"
        path.write_bytes(content)
        members = bounds.ending(lambda: model_list.read(path))
        if members is None:
            return
        total = sum(member.weight for member in members)
        assert math.isfinite(total)
        assert total > 0
        assert all(member.path.is_file() for member in members)
        again = folder / "again.txt"
        try:
            model_list.write(again, members, comments=[])
        except InputError:  # a path or an option that a line cannot hold
            return
        for one, other in zip(members, model_list.read(again), strict=True):
            assert one.weight == pytest.approx(other.weight, rel=0, abs=0)
            assert one.path.samefile(other.path)
            assert (one.pixels, one.class_names) == (other.pixels, other.class_names)
