"""What a source file imports, calls and holds, read from its syntax for the test of the house."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support import ROOT

FITTING = frozenset({"fit", "compile", "train_on_batch"})
PREDICTING = frozenset({"predict", "predict_on_batch"})
KERAS = frozenset({"keras", "tensorflow", "ferlab", "models"})  # where Keras models come from
VAGUE = frozenset({"typing", "collections"})  # an annotation with `Any` or `Callable` shows nothing
Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    """The dotted name of a file: `ferlab.data.sources`, of a package the package's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def is_module(name: str) -> bool:
    """Whether a dotted name is a module or package of this repository."""
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _aliases(tree: ast.AST, package: str) -> dict[str, str]:
    """The dotted origin of each imported name, wherever in the file it is imported."""
    origins = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name.partition(".")[0]
                origins[bound] = alias.name if alias.asname else bound
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{module}.{alias.name}"
    return origins


def _absolute(node: ast.ImportFrom, package: str) -> str:
    """The module of a `from ... import`, a relative one seen from `package`."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    parents = parts[: len(parts) - node.level + 1]
    return ".".join([*parents, *([node.module] if node.module else [])])


def imports(source: str, package: str = "") -> Iterator[str]:
    """Every module that a source imports, and `module.name` for each name taken from one."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = _absolute(node, package)
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> Iterator[str]:
    """The imports of a file of this repository."""
    name = name_of(path)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return imports(path.read_text(), package)


def keras_calls(source: str, names: frozenset[str], package: str = "") -> list[str]:
    """The uses of methods called `names` whose receiver may be a Keras model.

    A receiver is harmless where the source shows what it is: a module (`re.compile`, our own
    `training.fit`), or an instance of, or annotated with, a class of another library than Keras
    (`SVC().fit`). Every other receiver counts as a Keras model.
    """
    tree = ast.parse(source)
    origins = _Origins(tree, _aliases(tree, package))
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node, scopes in _with_scopes(tree, ())
        if isinstance(node, ast.Attribute)
        and node.attr in names
        and origins.may_be_keras(node.value, scopes)
    ]


def _with_scopes(node: ast.AST, scopes: tuple) -> Iterator[tuple[ast.AST, tuple]]:
    """Every node, with the functions around it, the innermost first."""
    yield node, scopes
    if isinstance(node, Function | ast.Lambda):
        scopes = (node, *scopes)
    for child in ast.iter_child_nodes(node):
        yield from _with_scopes(child, scopes)


class _Origins:
    """Where the values in a source come from."""

    def __init__(self, tree: ast.AST, aliases: dict[str, str]):
        self.aliases = aliases
        self.bindings: dict[tuple[ast.AST | None, str], list[ast.expr | None]] = {}
        for node, scopes in _with_scopes(tree, ()):
            scope = scopes[0] if scopes else None
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._bind(scope, target, node.value)
            elif isinstance(node, ast.AnnAssign):
                self._bind(scope, node.target, node.annotation)
            elif isinstance(node, ast.NamedExpr):
                self._bind(scope, node.target, node.value)
            elif isinstance(node, ast.For | ast.comprehension):
                self._bind(scope, node.target, None)
            elif isinstance(node, ast.withitem) and node.optional_vars:
                self._bind(scope, node.optional_vars, node.context_expr)
            elif isinstance(node, ast.arg):
                # Arguments are children of the function, which is therefore around them already.
                self.bindings.setdefault((scope, node.arg), []).append(node.annotation)

    def _bind(self, scope, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            for each in target.elts:
                self._bind(scope, each, None)
        else:
            # An attribute (`self.model`) is the same in all methods.
            scope = scope if isinstance(target, ast.Name) else None
            self.bindings.setdefault((scope, ast.unparse(target)), []).append(value)

    def may_be_keras(self, value: ast.expr | None, scopes: tuple, depth: int = 0) -> bool:
        """Whether an expression may be a Keras model, which it may unless shown otherwise."""
        if value is None or depth > 20:
            return True
        if isinstance(value, ast.Constant):
            if not isinstance(value.value, str):
                return False
            return self.may_be_keras(_parsed(value.value), scopes, depth + 1)  # an annotation
        if isinstance(value, ast.Call):
            made_by = self._dotted(value.func)
            if made_by is not None:
                is_class = made_by.rpartition(".")[2][0].isupper()
                return not is_class or made_by.partition(".")[0] in KERAS
            # A method gives what its object is: `PCA().fit(x)` is a PCA.
            called = value.func
            return not isinstance(called, ast.Attribute) or self.may_be_keras(
                called.value, scopes, depth + 1
            )
        if bindings := self._bindings_of(value, scopes):
            return any(self.may_be_keras(each, scopes, depth + 1) for each in bindings)
        dotted = self._dotted(value)
        if dotted is None:
            return True
        return dotted.partition(".")[0] in KERAS | VAGUE and not (
            dotted.startswith(("ferlab", "models")) and is_module(dotted)
        )

    def _bindings_of(self, value: ast.expr, scopes: tuple) -> list[ast.expr | None]:
        name = ast.unparse(value)
        for scope in (*scopes, None):
            if bindings := self.bindings.get((scope, name)):
                return bindings
        return []

    def _dotted(self, value: ast.expr) -> str | None:
        """The full dotted name of an imported thing; None for what is not imported."""
        if isinstance(value, ast.Attribute):
            parent = self._dotted(value.value)
            return parent and f"{parent}.{value.attr}"
        return self.aliases.get(value.id) if isinstance(value, ast.Name) else None


def _parsed(annotation: str) -> ast.expr | None:
    try:
        return ast.parse(annotation, mode="eval").body
    except SyntaxError:
        return None


def functions(source: str) -> Iterator[tuple[str, int]]:
    """The name and the number of lines of each function, decorators left out."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1
