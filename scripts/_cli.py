"""What the scripts share: the command line, `--help` from the sources, errors without a traceback.

Only the standard library is imported here, so that `--help` answers at once: importing transformers takes seconds. The
settings are therefore read from the source files, where every field is followed by a string that describes it.
"""

import ast
import os
import sys
import textwrap
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MODEL = (ROOT / "selfattn_hf/model/configuration_selfattn.py", "SelfAttnConfig")
DATA = (ROOT / "selfattn_hf/data/settings.py", "DataSettings")
RUN = (ROOT / "selfattn_hf/training/settings.py", "RunSettings")
ARGUMENTS = ROOT / "selfattn_hf/training/arguments.py"

# Fields of the config that the tokenizer or the class itself decides, so that no run sets them.
DECIDED_ELSEWHERE = frozenset({
    "vocab_size", "pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "is_encoder_decoder",
    "selfattn_version",
})  # fmt: skip

TRACEBACK = "SELFATTN_TRACEBACK"  # set this environment variable to see where an error came from
WIDTH = 100
_NO_BREAK = "\N{NO-BREAK SPACE}"


class UsageError(ValueError):
    """A command line that cannot be read."""


@dataclass
class CommandLine:
    """What was typed: values without a name in order, and values with one; True for a name without a value."""

    positional: list[str] = field(default_factory=list)
    named: dict[str, str | bool] = field(default_factory=dict)
    help: bool = False


def parse(arguments: Sequence[str]) -> CommandLine:
    """Read `--name value`, `--name=value` and a bare `--name`, which is true; `-` inside a name counts as `_`.

    Raises:
        UsageError: for a name given twice, an option with one dash and anything else that cannot be read.
    """
    typed, rest = CommandLine(), list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            typed.help = True
        elif word == "--":
            typed.positional.extend(rest)
            rest = []
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            name = name.replace("-", "_")
            if name in typed.named:
                raise UsageError(f"--{name} is given twice. Keep one of them.")
            if not name.isidentifier():
                raise UsageError(f"{word!r} is no setting: names look like --learning_rate. See --help.")
            if equals:
                typed.named[name] = value
            elif rest and not rest[0].startswith("--"):
                typed.named[name] = rest.pop(0)
            else:
                typed.named[name] = True
        elif word.startswith("-") and word != "-":
            raise UsageError(
                f"{word!r} is no setting: settings have two dashes, as in --learning_rate 5e-4. See --help."
            )
        else:
            typed.positional.append(word)
    return typed


def run(main: Callable[[list[str]], None]) -> None:
    """Call `main` with the command line; an error of the user becomes one message and exit code 2.

    Errors that stop a run that had begun well (a loss that is not a number) exit with code 1. Set the environment
    variable SELFATTN_TRACEBACK=1 for the whole traceback.
    """
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    try:
        main(sys.argv[1:])
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt as stop:  # of a run that has saved first, with a message and a code of its own
        _stop(str(stop) or "interrupted", getattr(stop, "exit_code", 130))
    except (ValueError, OSError) as error:
        _stop(f"error: {str(error) or type(error).__name__}", 2)
    except ArithmeticError as error:
        _stop(f"error: {error}", 1)


def _stop(message: str, code: int) -> None:
    if os.environ.get(TRACEBACK):
        raise  # noqa: PLE0704 - called from the handlers above alone
    print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    raise SystemExit(code) from None


def settings_help(
    source: tuple[Path, str], title: str, *, only: Collection[str] = (), skip: Collection[str] = ()
) -> str:
    """The fields of a settings class as text: name, legal values, default and the string under each field.

    Args:
        source: file and name of the class.
        title: heading of the group.
        only: names to list; empty: all.
        skip: names to leave out.
    """
    path, name = source
    if not path.is_file():
        raise UsageError(f"{path} is missing, and --help reads the settings from it. Check out the whole repository.")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    aliases = _aliases(path)
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    lines = [f"{title}:"]
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        label = node.target.id
        if label in skip or (only and label not in only) or label.startswith("_"):
            continue
        default = f"(default: {_default(node.value)})" if node.value is not None else "(required)"
        head = f"  --{label} {', '.join(_values(node.annotation, aliases))}  {default.replace(' ', _NO_BREAK)}"
        head = textwrap.fill(head, WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False, break_long_words=False)
        lines.append(head.replace(_NO_BREAK, " "))
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            lines.append(fill(" ".join(after.value.value.split()), indent=" " * 6))
    return "\n".join(lines)


def _aliases(path: Path) -> dict[str, ast.expr]:
    """What names stand for in annotations: what a file assigns to them, and the files beside it that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= _aliases(path.parent / f"{node.module}.py")
        elif isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def constant_of(path: Path, name: str) -> dict[str, Any]:
    """The dictionary of plain values that a source file assigns to `name`."""
    value: dict[str, Any] = ast.literal_eval(_assigned(path, name))
    return value


def names_of(path: Path, name: str) -> list[str]:
    """The keys of a dictionary that a source file assigns to `name`, those of `dict.fromkeys((...), ...)` included."""
    return [
        node.value
        for node in ast.walk(_assigned(path, name))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
    ]


def plain(value: object) -> str:
    """A value as it is written in a settings file."""
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else str(value)
    )


def fill(text: str, indent: str = "") -> str:
    """Text in lines of a width that is easy to read."""
    return textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _assigned(path: Path, name: str) -> ast.expr:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == name
            and node.value
        ):
            return node.value
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return node.value
    raise UsageError(f"{path} assigns nothing to {name}, and --help shows it.")


def _values(annotation: ast.expr, aliases: dict[str, ast.expr]) -> list[str]:
    """An annotation as a reader wants it: `Literal["a", "b"] | None` -> a, b, null."""
    if isinstance(annotation, ast.Name) and annotation.id in aliases:
        return _values(aliases[annotation.id], aliases)
    if isinstance(annotation, ast.BinOp):
        return list(dict.fromkeys(_values(annotation.left, aliases) + _values(annotation.right, aliases)))
    if isinstance(annotation, ast.Constant):
        return [plain(annotation.value)]
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        members = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return [value for member in members for value in _values(member, aliases)]
    if isinstance(annotation, ast.Subscript):
        kind = ast.unparse(annotation.value)
        if kind == "list" and isinstance(annotation.slice, ast.Name) and annotation.slice.id in aliases:
            return ["a list of them"]  # such a field takes one of its words, or several
        return [{"list": "a list", "dict": "a dictionary"}.get(kind, ast.unparse(annotation))]
    text = ast.unparse(annotation)
    return {"str": ["text"], "int": ["number"], "float": ["number"], "bool": ["true", "false"]}.get(text, [text])


def _default(value: ast.expr) -> str:
    return plain(value.value) if isinstance(value, ast.Constant) else ast.unparse(value)
