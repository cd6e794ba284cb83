"""From words to typed arguments: the signature and docstring of a command are its options and its help, by `tyro`.

What cannot be used is one line, and told before anything heavy is imported: a word that is no option, a number that is
none, a path that is not there.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import io
import math
import re
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

import tyro

from intermode.errors import InputError

if TYPE_CHECKING:
    from intermode.detect.window import StepWindow

__all__ = ["Group", "flag", "parse", "window_of"]

T = TypeVar("T")
WRITTEN = ("out", "jobs")
"""Arguments whose paths need not be there; all others are read."""
NOTHING = "(default: )"
Group: TypeAlias = Annotated[T, tyro.conf.arg(name="")]
"""Options that several commands share, as a dataclass; its name is no part of theirs."""
WORDS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}


def parse(command: Callable[..., Any], args: Sequence[str], name: str) -> Callable[[], Any]:
    """The command with its arguments, ready to be called.

    Raises:
        InputError: words that cannot be used.
        SystemExit: after ``--help``.
    """

    @functools.wraps(command)
    def later(*given: Any, **named: Any) -> Callable[[], Any]:
        _check(inspect.signature(command).bind(*given, **named).arguments)
        return functools.partial(command, *given, **named)

    printed, helped = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(helped), redirect_stderr(printed), _rules():
            return tyro.cli(later, args=args, prog=f"intermode {name}")
    except SystemExit as end:
        if end.code:
            raise InputError(f"{_one_line(printed.getvalue(), args)}; see intermode {name} --help") from None
        # where nothing is the default, the text says what that means
        print(helped.getvalue().replace(NOTHING, " " * len(NOTHING)), end="")
        raise


def flag(args: Sequence[str], name: str, default: str) -> str:
    """The value of a flag, the last one given, before the real parser knows which options there are."""
    for i, word in reversed(list(enumerate(args))):
        if word == name and i + 1 < len(args):
            return args[i + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return default


def window_of(words: Sequence[str]) -> StepWindow:
    """A window: two timesteps, a range of signal-to-noise ratios as ``snr:LOW,HIGH``, or ``critical``."""
    from intermode.detect.window import SNR, Window, as_window

    if list(words) == ["critical"]:
        return as_window("critical")

    try:
        if len(words) == 1 and words[0].startswith("snr:"):
            low, high = map(float, words[0][4:].split(","))
            return SNR(low, high)
        first, last = map(int, words)
    except InputError:
        raise
    except ValueError:
        told = "neither two timesteps, LOW HIGH, nor snr:LOW,HIGH, nor critical"
        raise InputError(f"window: {' '.join(words)} is {told}") from None
    return Window(first, last)


def _check(arguments: dict[str, Any]) -> None:
    """Raise InputError for a number that is not finite, or a path that is read and not there."""

    def numbers(value: Any) -> Iterator[float]:
        if isinstance(value, float):
            yield value
        elif isinstance(value, list | tuple):
            for inner in value:
                yield from numbers(inner)

    for name, value in arguments.items():
        if is_dataclass(value) and not isinstance(value, type):
            _check(asdict(value))
        elif isinstance(value, dict):
            _check(value)
        elif bad := [number for number in numbers(value) if not math.isfinite(number)]:
            raise InputError(f"{name}: {bad[0]} must be a finite number")
        elif isinstance(value, Path) and name not in WRITTEN and not value.exists():
            raise InputError(f"{name}: {value} not found")
        elif name == "model" and not Path(value).exists() and value not in (names := _shipped()):
            raise InputError(f"model: {value} not found; give a folder or a shipped model, {', '.join(names)}")


def _shipped() -> list[str]:
    """The models that come with the package, without opening them."""
    configs = (Path(__file__).parent / "pretrained").glob("*/config.json")
    return sorted(path.parent.name for path in configs if '"intermode-model-' in path.read_text(encoding="utf-8"))


def _rules() -> tyro.constructors.ConstructorRegistry:
    """How types are read and shown: one that may be None as what it is otherwise, tuples as their words.

    In lists of lists of numbers each inner list is one word: ``--mode-sets 1,2 1,2,4,5``.
    """
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def _(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        kind: Any = info.type
        optional = False
        if get_origin(kind) in (Union, types.UnionType) and types.NoneType in get_args(kind):
            kind, optional = Union[tuple(a for a in get_args(kind) if a is not types.NoneType)], True  # noqa: UP007 (made here)
        items = get_args(kind) if get_origin(kind) is tuple else ()
        if get_origin(kind) in (Literal, Union, types.UnionType) or not (items or optional):
            return None
        inner = [item for item in items if item is not ...] or [kind]
        lists = get_origin(inner[0]) is tuple
        open_end = lists or ... in items
        one = _floats if lists else inner[0]
        word = "A,B,..." if lists else WORDS.get(inner[0], inner[0].__name__.upper())

        def read(words: list[str]) -> Any:
            values = tuple(one(each) for each in words)
            return values if items else values[0]

        def shown(value: Any) -> list[str]:
            values = [] if value is None else value if items else [value]
            return [",".join(f"{number:g}" for number in each) if lists else str(each) for each in values]

        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*" if open_end else len(inner),
            metavar=f"{word} ..." if open_end and not lists else " ".join([word] * (1 if open_end else len(inner))),
            instance_from_str=read,
            is_instance=lambda value: (value is None and optional) or isinstance(value, tuple if items else object),
            str_from_instance=shown,
        )

    return registry


def _floats(word: str) -> tuple[float, ...]:
    return tuple(float(number) for number in word.split(","))


def _one_line(box: str, args: Sequence[str]) -> str:
    """What tyro says in a box, in one line: what is wrong, and what is allowed."""
    rows = [row.strip("│").rstrip() for row in box.splitlines() if not row.startswith(("╭", "╰"))]
    sections: list[list[str]] = [[]]
    for row in rows:
        if row and not row.strip(" ─-"):
            sections.append([])
        elif row:
            sections[-1].append(row)
    if "╭" not in box:  # without UTF-8 the title is a section of its own
        del sections[0]
    first, *others = sections
    if first[0].lstrip().startswith("Missing from"):
        # the names stand before their explanations, which are indented more
        indent = len(first[0]) - len(first[0].lstrip()) + 4
        names = [row.strip() for row in first[1:] if re.match(rf" {{{indent}}}\S", row)]
        names = [name.rpartition(", ")[2] for name in names]  # of -n and --n the last
        flags = {name.split()[0] for name in names}
        meant = [
            f"; did you mean {flag} by {word}?"
            for flag in sorted(flags)
            for word in difflib.get_close_matches(flag, args, n=1, cutoff=0.8)
        ]
        return f"missing: {', '.join(names)}{''.join(meant)}"
    message = " ".join(row.strip() for row in first).rstrip(".")
    message = re.sub(r"^Error parsing (\S+?):", r"\1:", message)
    message = re.sub(r"^config\.([\w.]+): (\w+): ", r"\1.\2: ", message)  # a config that checks itself
    message = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is no whole number", message)
    hints = [row.strip() for row in others[0]] if others else []
    if hints[:1] == ["Perhaps you meant:"]:
        message += f"; did you mean {hints[1].split()[0]}?"
    elif hints[:1] == ["Argument helptext:"]:
        message += f"; takes {hints[1].split(maxsplit=1)[-1]}"
    return message[0].lower() + message[1:]
