"""The documentation: its links, commands, flags and the tree in CONTRIBUTING.md are true."""

import argparse
import ast
import functools
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from support import ROOT

from ferlab import __version__

README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
SECURITY = ROOT / "SECURITY.md"
PAGES = [README, CONTRIBUTING, SECURITY, *sorted(ROOT.glob("docs/*.md"))]
USER_PAGES = [page for page in PAGES if page != CONTRIBUTING]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
MOST_WORDS = 900
READERS_OWN = {"PEER.py"}  # a script that a benchmark compares with

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"```[a-z]*\n(.*?)```|`([^`]+)`", re.DOTALL)
_FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_RUN = re.compile(r"\bpython (?:-m ferlab ([a-z][a-z-]*)|([\w/]+\.py))")
_OTHER_PROGRAM = re.compile(r"^(\$ )?(git|pip|make|ruff|pytest|sudo|apt-get|python -m (?!ferlab))")


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_lines(page: Path) -> list[str]:
    """Every line of a code block and every code span of a page."""
    lines = []
    for block, span in _CODE.findall(page.read_text()):
        lines += block.splitlines() if block else [span.replace("\n", " ")]
    return [line.strip() for line in lines if line.strip()]


class _Parsed(Exception):
    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def parser_of(path: Path) -> argparse.ArgumentParser:
    """The parser that a script hands its arguments to."""

    def stop(parser: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
        raise _Parsed(parser)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        patch.setattr(sys, "argv", [str(path)])
        with pytest.raises(_Parsed) as parsed:
            runpy.run_path(str(path), run_name="script")["main"]()
    return parsed.value.parser


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


@functools.cache
def command_parsers() -> dict[str, argparse.ArgumentParser]:
    parser = parser_of(ROOT / "ferlab" / "__main__.py")
    (subparsers,) = (
        action for action in parser._actions if isinstance(action, argparse._SubParsersAction)
    )
    return dict(subparsers.choices)


@functools.cache
def flags_by_program() -> dict[str, set[str]]:
    """The flags of each script, each command and, as their source has them, each benchmark."""
    flags = {name: flags_of(parser_of(ROOT / name)) for name in SCRIPTS}
    flags |= {name: flags_of(parser) for name, parser in command_parsers().items()}
    for path in [*ROOT.glob("bench/*.py"), *ROOT.glob("studies/*.py")]:
        texts = [
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        flags[page_id(path)] = {text for text in texts if _FLAG.fullmatch(text)}
    return flags


def programs_run(line: str) -> Iterator[tuple[str, str]]:
    """(program, its arguments) for each script, command or benchmark that a line of code runs."""
    for run in _RUN.finditer(line):
        program = run[1] or run[2]
        rest = line[run.end() :].partition("  #")[0]
        yield program, _RUN.split(rest, maxsplit=1)[0]


def tree() -> list[str]:
    """The paths of the tree in CONTRIBUTING.md, folders with a slash at the end."""
    block = re.search(r"^## The tree\n.*?^```\n(.*?)^```", CONTRIBUTING.read_text(), re.M | re.S)
    assert block, "CONTRIBUTING.md has no block of code under `## The tree`"
    paths, folders = [], []
    for line in block[1].splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name] if name.endswith("/") else []
        paths.append("".join([*folders[:depth], name]))
    return paths


def test_readme_is_short():
    assert len(README.read_text().split()) <= MOST_WORDS


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for link in _LINK.findall(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, heading = link.partition("#")
        target = (page.parent / unquote(path)).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = {re.sub(r"[^\w -]", "", text).lower().replace(" ", "-") for text in headings}
            assert heading in anchors, f"{page.name}: {link}"


def test_every_page_of_docs_is_linked_from_the_readme():
    links = set(_LINK.findall(README.read_text()))
    assert {page_id(page) for page in ROOT.glob("docs/*.md")} <= links


def test_every_picture_of_docs_is_shown():
    shown = {link for page in USER_PAGES for link in _LINK.findall(page.read_text())}
    names = {Path(link).name for link in shown}
    assert {path.name for path in ROOT.glob("docs/pictures/*")} <= names


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_scripts_and_commands_exist(page):
    for line in code_lines(page):
        for program, _ in programs_run(line):
            exists = program in command_parsers() or (ROOT / program).exists()
            assert exists or program in READERS_OWN, f"{page.name}: {line}"


def test_readme_names_every_script_and_command():
    text = README.read_text()
    assert [name for name in SCRIPTS if f"`{name}`" not in text] == []
    assert [name for name in command_parsers() if f"`python -m ferlab {name}`" not in text] == []


@pytest.mark.parametrize("page", USER_PAGES, ids=page_id)
def test_flags_are_known(page):
    known = flags_by_program() | {name: set() for name in READERS_OWN}
    for line in code_lines(page):
        if _OTHER_PROGRAM.match(line):
            continue
        runs = list(programs_run(line))
        for program, arguments in runs:
            own, _, wrapped = arguments.partition(" -- ")
            assert set(_FLAG.findall(own)) <= known[program], f"{page.name}: {line}"
            if wrapped:
                script = wrapped.split()[0]
                assert set(_FLAG.findall(wrapped)) <= known[script], f"{page.name}: {line}"
        if not runs:
            every = set().union(*known.values())
            assert set(_FLAG.findall(line)) <= every, f"{page.name}: {line}"


def test_every_promise_of_security_names_tests_that_exist():
    text = SECURITY.read_text().partition("## What is not promised")[0]
    for promise in re.split(r"^- ", text, flags=re.M)[1:]:
        tests = re.findall(r"`(\w+(?:/\w+)*\.py)::(\w+)`", promise)
        assert tests, promise
        for file, name in tests:
            assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), f"{file}::{name}"


def test_citation_and_changelog_are_of_this_version():
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == __version__


def test_tree_exists():
    assert [path for path in tree() if not (ROOT / path).exists()] == []


def test_tree_holds_every_module():
    modules = [
        page_id(path)
        for folder in ("ferlab", "models", "studies", "bench")
        for path in ROOT.glob(f"{folder}/**/*.py")
        if path.name != "__init__.py"
    ]
    held = set(tree())
    assert sorted(path for path in [*modules, *SCRIPTS] if path not in held) == []
