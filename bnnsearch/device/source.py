"""The C of a program: the functions it uses out of `native/device`, its tables, its stages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from bnnsearch import native
from bnnsearch.device.program import Part, Program, Stage, Step, Window
from bnnsearch.packed.operations import Array

FILES = ("base", "binary", "maps", "real", "steps")
CTYPES = {"i1": "int8_t", "i2": "int16_t", "i4": "int32_t", "u1": "uint8_t", "f4": "float"}
WIDTH = 116
_DEFINED = re.compile(
    r"^(?:(?:static|APART) [\w ]*?\**|#define |[A-Z]+\()(\w+)[(,;]|^} (\w+);|^struct (\w+) {", re.MULTILINE
)


@cache
def _blocks() -> dict[str, str]:
    """What the files define, by name, in their order: text that a blank line ends. What has no name is its own key."""
    folder = Path(native.__file__).with_name("device")
    found: dict[str, str] = {}
    for file in FILES:
        text = (folder / f"{file}.h").read_text(encoding="utf-8")
        for block in text.split("\n\n"):
            body = re.sub(r'^#include "base.h"\n?', "", block.strip(), flags=re.MULTILINE).strip()
            code = re.sub(r"/\*.*?\*/", "", body, flags=re.DOTALL).strip()
            defined = _DEFINED.search(code)
            if code:
                found[next(filter(None, defined.groups())) if defined else code] = body
    return found


def function_names(program: Program) -> set[str]:
    """What a program uses of the files: functions, those that they call, and types."""
    needed, waiting = set[str](), ["run"]
    for stage in program.written():
        waiting += [stage.source, *(step.take for step in stage.steps)]
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += mentioned(name)[0]
    return needed


def mentioned(name: str) -> tuple[set[str], str]:
    """What the files define of what a function, type or macro mentions, and its text without comments."""
    blocks = _blocks()
    code = re.sub(r"/\*.*?\*/", "", blocks[name], flags=re.DOTALL)
    return {word for word in re.findall(r"\w+", code) if word in blocks}, code


def functions(program: Program) -> list[str]:
    """The text of what a program uses, in the order of the files."""
    needed = function_names(program)
    return [text for name, text in _blocks().items() if name in needed or not name.isidentifier()]


def model_source(program: Program, prefix: str) -> str:
    """The text of `model.c`, whose names all begin with `prefix`."""
    writer = _Writer(program, prefix)
    body = writer.body()
    upper = prefix.upper()
    return f"""/* Written by bnnsearch pack --c; the operations are bnnsearch's (Apache-2.0). */
#include "{prefix}.h"

#if defined(__FAST_MATH__)
#error "numbers must round as they are written: no -ffast-math"
#endif

typedef {upper}_NUMBER Number;
#define MULTIPLY_FREE {int(program.multiply_free)}

{chr(10).join(text + chr(10) for text in functions(program))}
static uint32_t arena[({upper}_ARENA_BYTES + 3) / 4];

/* A smaller arena does not compile. */
typedef char arena_holds_the_network[{upper}_ARENA_BYTES >= {program.arena_bytes} ? 1 : -1];

{body}
const {upper}_NUMBER *{prefix}_scores(void) {{
    return (const Number *)(const void *)((const uint8_t *)arena + {program.starts[program.output]});
}}

int {prefix}_predict(const uint8_t *octets) {{
    const Number *scores = {prefix}_scores();
    int best = 0;
    image = octets;
    for (unsigned i = 0; i < sizeof stages / sizeof *stages; i++) run(&stages[i]);
    for (int label = 1; label < {upper}_CLASSES; label++)
        if (scores[label] > scores[best]) best = label;
    return best;
}}
"""


def c_array(values: Array) -> str:
    """A table's values as an initialiser."""
    flat = values.ravel()
    texts = [_real(value) if flat.dtype.kind == "f" else str(value) for value in flat.tolist()]
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "{\n" + "\n".join([*lines, line]) + "\n}"


def _real(value: float) -> str:
    """A float exactly, as C99 and C++ read it: nine digits."""
    text = f"{value:.9g}"
    return (text if set(text) & set(".e") else f"{text}.0") + "f"


class _Writer:
    def __init__(self, program: Program, prefix: str) -> None:
        self.program = program
        self.prefix = prefix
        self.lines: list[str] = []
        self.tables = 0
        self.names: dict[int, str] = {}

    def body(self) -> str:
        """Tables, then the stages that run."""
        tops = []
        for number, stage in enumerate(self.program.stages):
            for other in _below(stage):
                self._view(other)
            tops.append(f"    {self._initialiser(stage, f'steps{number}')}, /* {_comment(stage.name)} */")
        self.lines.append("static const Stage stages[] = {\n" + "\n".join(tops) + "\n};\n")
        return "\n".join(self.lines)

    def _view(self, stage: Stage) -> None:
        if id(stage) not in self.names:
            name = f"view{len(self.names)}"
            self.names[id(stage)] = name
            text = self._initialiser(stage, "")
            self.lines.append(f"static const Stage {name} = {text}; /* {_comment(stage.name)} */\n")

    def _initialiser(self, stage: Stage, steps: str) -> str:
        weights, shape = stage.weights, stage.shape
        table = self._parts(weights) if isinstance(weights, tuple) else self._table(weights, stage.name)
        inner = f"&{self.names[id(stage.inner)]}" if stage.inner is not None else "0"
        listed = "0"
        if stage.steps:
            texts = ",\n".join(f"    {self._step(step, stage.name)}" for step in stage.steps)
            self.lines.append(f"static const Step {steps}[] = {{\n{texts}\n}};\n")
            listed = steps
        size = f"{shape.height}, {shape.width}, {shape.channels}, {len(stage.steps)}"
        return (
            f"{{{stage.source}, {inner}, {self._map(stage.map)}, {table}, {_window(stage.window)}, {size}, {listed}}}"
        )

    def _step(self, step: Step, name: str) -> str:
        a = f"&{self.names[id(step.a)]}" if isinstance(step.a, Stage) else self._table(step.a, name)
        return f"{{{step.take}, {a}, {self._table(step.b, name)}, {self._map(step.to)}, {step.channels}}}"

    def _parts(self, parts: Sequence[Part]) -> str:
        rows = ", ".join(
            f"{{{f'&{self.names[id(part.of)]}' if part.of else 0}, {part.first}, {part.count}}}" for part in parts
        )
        name = f"parts{len(self.lines)}"
        self.lines.append(f"static const Part {name}[] = {{{rows}}};\n")
        return name

    def _map(self, value: str | None) -> str:
        if value is None:
            return "0"
        words, octets = divmod(self.program.starts[value], 4)
        return f"(uint8_t *)arena + {4 * words + octets}"

    def _table(self, values: Array | None, of: str) -> str:
        """The name of a new table with these values."""
        if values is None:
            return "0"
        name, self.tables = f"table{self.tables}", self.tables + 1
        ctype = CTYPES[values.dtype.str[1:]]
        self.lines.append(f"static const {ctype} {name}[{values.size}] = {c_array(values)}; /* {_comment(of)} */\n")
        return name


def _below(stage: Stage) -> Iterator[Stage]:
    """Every stage it asks, those that are asked first."""
    for other in stage.others():
        yield from other.all()


def _window(window: Window) -> str:
    (channels, height, width) = window.shape
    pairs = ", ".join(f"{{{a}, {b}}}" for a, b in (window.kernel, window.stride, window.padding))
    return f"{{{{{height}, {width}}}, {channels}, {pairs}}}"


def _comment(name: str) -> str:
    """A name of the network as text that cannot end a comment."""
    return re.sub(r"[^\w.\- ]", "_", name)
