"""Guests: members of families that come from outside this package, by `use:` in a configuration.

    use: [my_package.methods, ./own_method.py]

An entry is a module that can be imported, or a file beside the configuration. Its members are the classes of settings
that it defines: each derives from the base of a family, and has a name of its own. Guests are code: to read a
configuration that uses some runs them, as importing them would.

What runs is told apart by a digest of its files, and these travel with a search to all its processes.

A setting may also name a factory, `module:name`, in a module of `use:` or in any that can be imported. Its module is a
guest too, members or none.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module, invalidate_caches
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, cast

from pydantic import BaseModel

from bnnsearch.config.families import (
    FAMILIES,
    GUESTS,
    PLACES,
    Family,
    Member,
    check_member,
    installed_modules,
    name_of,
    named,
)
from bnnsearch.errors import InputError, printable
from bnnsearch.files import read_regular

logger = logging.getLogger(__name__)

MOST_BYTES = 8 * 2**20
"""Files of a guest that travel with a search, together; a larger package must be installed wherever trials run."""

_REQUIRED = ("torchvision",)
"""Installed wherever this package is: their files need not travel."""

_NO_MEMBERS = (
    "has no members: classes of settings that derive from the base of a family and have a name, such as "
    "`class MineConfig(GradientMethod): name: Literal['mine'] = 'mine'`"
)

_PREFIX = "bnnsearch_guest_"
"""What the module of a file is called, before the file's own name: it must not hide an installed one."""


class GuestError(ValueError):
    """What a configuration uses cannot be used; the message says why, in one line.

    Attributes:
        place: which entry of `use:`.
    """

    def __init__(self, place: int, problem: str) -> None:
        super().__init__(f"use.{place}: {printable(problem)}")
        self.place = place


@dataclass(frozen=True, slots=True)
class Guest:
    """Code that a configuration uses.

    Attributes:
        entry: as the configuration names it; a file by its name alone.
        digest: of its files: a file's own, or those of the whole package that a module is part of.
        files: content by path, from the folder on the path of modules; none where they are too large to travel.
    """

    entry: str
    digest: str
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def is_file(self) -> bool:
        """Whether it is a file beside the configuration."""
        return self.entry.endswith(".py")

    @property
    def module(self) -> str:
        """Name of its module."""
        return _PREFIX + self.entry.removesuffix(".py") if self.is_file else self.entry

    def told(self) -> dict[str, str]:
        """What a study's record keeps of it: a file whole, of a package the digest."""
        text = {"text": self.files[self.entry].decode("utf-8", "surrogateescape")} if self.is_file else {}
        return {"entry": self.entry, "digest": self.digest, **text}

    @property
    def members(self) -> list[str]:
        """What it adds, such as `methods tanh`."""
        known = dict(GUESTS)
        for family in FAMILIES:
            for name in family.installed_in_use():
                if (member := family.member(name)) is not None:
                    known[family.key, name] = member
        members = [f"{key} {name}" for (key, name), member in known.items() if member.__module__ == self.module]
        return members or ["factories"]


_LOADED: dict[str, Guest] = {}
"""What this process has run, by the name of its module."""


def use(entries: Sequence[str], folder: Path, recorded: Mapping[str, bytes] | None = None) -> tuple[Guest, ...]:
    """Bring what a configuration uses into this process, so that its members can be named.

    Args:
        entries: its `use:`.
        folder: where the configuration lies.
        recorded: content of files that need not lie there, by name.

    Raises:
        GuestError: an entry is none, is not there, raises, or has no members, or one whose name is taken.
    """
    guests: list[Guest] = []
    taken: dict[tuple[str, str], str] = {}
    for place, entry in enumerate(entries):
        try:
            guest = _found(entry, folder, recorded or {})
            module = _loaded(guest, folder)
            members = list(_members(guest, module))
            if not members and not (guest.is_file and any(map(_is_factory, vars(module).values()))):
                raise ValueError(_NO_MEMBERS)
            for key, member in members:
                if key in taken and taken[key] != guest.entry:
                    raise ValueError(f"its {key[1]} of {key[0]} is one of {taken[key]} already")
                taken[key] = guest.entry
                GUESTS[key] = member
        except (OSError, ValueError) as error:
            raise GuestError(place, f"{entry}: {getattr(error, 'strerror', None) or error}") from error
        guests.append(guest)
    return tuple(guests)


def use_of(tree: Mapping[str, Any], folder: Path) -> None:
    """Bring the guests of a configuration that a program wrote into this process; what is no list is left to its check.

    Raises:
        GuestError: as `use`.
    """
    entries = tree.get("use", ())
    if isinstance(entries, list) and all(isinstance(each, str) for each in entries):
        use(entries, folder)


def files_told(told: Sequence[Mapping[str, str]]) -> dict[str, bytes]:
    """The files among what a record tells of guests, by name."""
    return {each["entry"]: each["text"].encode("utf-8", "surrogateescape") for each in told if "text" in each}


def offered(words: Collection[str]) -> tuple[Guest, ...]:
    """The guests of installed packages whose members are among `words`; nothing is looked up that was not before."""
    modules = {
        member.__module__
        for family in FAMILIES
        for name in family.installed_in_use()
        if name in words and (member := family.member(name)) is not None
    }
    return tuple(_found(module, Path(), {}) for module in sorted(modules))


def factory_guests(places: Collection[str]) -> tuple[Guest, ...]:
    """The guests that factories outside of `use:` are part of; nothing is imported, and what is missing left out."""
    modules = {factory_module(place) for place in places if missing_factory(place) is None}
    found = (_found(module, Path(), {}) for module in sorted(modules) if module not in _LOADED and not _is_base(module))
    return tuple(replace(each, files={}) if _top(each.module) in _REQUIRED else each for each in found)


def factory_module(place: str) -> str:
    """The name of the module of a factory `module:name`: a file of `use:` goes before what can be imported."""
    module = place.partition(":")[0]
    return _PREFIX + module if _PREFIX + module in _LOADED else module


def missing_factory(place: str) -> str | None:
    """Why a factory cannot be there, as far as that is known without importing its module; None where it can."""
    module, name = factory_module(place), place.partition(":")[2]
    if module in sys.modules:
        return None if hasattr(sys.modules[module], name) else f"its module has no {name}"
    if _top(module) in _there or find_spec(_top(module)) is not None:
        _there.add(_top(module))
        return None
    return f"there is no module {_top(module)} here; a file beside the configuration needs `use: [./{module}.py]`"


_there: set[str] = set()
"""Modules of factories that this process has found: a search that began goes on, whatever becomes of their files."""


def factory(place: str) -> Callable[..., Any]:
    """What a factory `module:name` names, its module imported.

    Raises:
        ValueError: there is none, or the module raises.
    """
    module, name = factory_module(place), place.partition(":")[2]
    try:
        return cast(Callable[..., Any], getattr(import_module(module), name))
    except Exception as error:  # a stranger's code may raise whatever it likes
        raise ValueError(own_line(error, module)) from error


def own_line(error: BaseException, module: str) -> str:
    """What the code of a guest raised, and the last line of its own on the way there.

    Args:
        error: what was raised.
        module: the guest's.
    """
    logger.info("%s: its own error", module, exc_info=error)
    used = _LOADED.get(module)
    return _last_line(error, used.files if used else _package_files(_top(module)))


def blamed(error: BaseException) -> str | None:
    """Which guest's code raised an error, where it is named, and its own last line; None where it was no guest's."""
    tops = {_top(module) for module in (*_LOADED, *installed_modules())}
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        module = frame.f_globals.get("__name__", "")
        if _top(module) in tops:
            place = next((PLACES[each] for each in PLACES if _top(each) == _top(module)), f"the package {_top(module)}")
            file = "" if module.startswith(_PREFIX) else f"{Path(frame.f_code.co_filename).name} "
            return printable(f"{place}: {file}line {line}: {type(error).__name__}: {error}")
    return None


def install(guests: Sequence[Guest]) -> None:
    """Bring guests that travelled with a search into this process.

    Raises:
        GuestError: as `use`; or this machine has another version of a package, and has loaded it.
    """
    for place, guest in enumerate(guests):
        try:
            if not guest.is_file:
                _unpack(guest)
            for key, member in _members(guest, _loaded(guest, Path())):
                GUESTS[key] = member
        except ValueError as error:
            raise GuestError(place, f"{guest.entry}: {error}") from error


def digests(settings: BaseModel) -> dict[str, str]:
    """The digest of every guest that a configuration names, by its module: on what it does it depends too."""
    found = {}
    for top in (_top(module) for each in _below(settings) for module in each.code_modules()):
        if not _is_base(top):
            used = (guest.digest for guest in _LOADED.values() if _top(guest.module) == top)
            found[top] = next(used, None) or _digest(_package_files(top))
    return found


def keep_guests(entries: Sequence[str], folder: Path) -> None:
    """Write the files among what is used, as this process has run them, beside a configuration in `folder`.

    Args:
        entries: its `use:`.
        folder: where it lies.

    Raises:
        InputError: another file is there already.
        OSError: one cannot be written.
    """
    for guest in (_LOADED[_module_of(entry)] for entry in entries if entry.endswith(".py")):
        path, content = folder / guest.entry, guest.files[guest.entry]
        if not path.exists():
            path.write_bytes(content)
        elif read_regular(path) != content:
            raise InputError(f"{path}: is another file than the {guest.entry} that is used; choose another folder")


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Write files by their paths below `folder`."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _below(value: object) -> Iterator[Member]:
    if isinstance(value, Member):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _below(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            yield from _below(each)


def _module_of(entry: str) -> str:
    return Guest(file_name(entry), "", {}).module


def file_name(entry: str) -> str:
    """An entry without the `./` that may stand before the name of a file."""
    return entry.removeprefix("./") if entry.endswith(".py") else entry


def _found(entry: str, folder: Path, recorded: Mapping[str, bytes]) -> Guest:
    name = file_name(entry)
    if name.endswith(".py"):
        if not name.removesuffix(".py").isidentifier():
            raise ValueError("must be a file beside the configuration whose name is a Python name, such as ./own.py")
        content = recorded[name] if name in recorded else read_regular(folder / name, most=MOST_BYTES)
        return Guest(name, _digest({name: content}), {name: content})
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError("must be a module, such as my_package.methods, or a file beside the configuration")
    if _top(name) == "bnnsearch":
        raise ValueError("is part of bnnsearch, whose members need no `use:`")
    files = _package_files(_top(name))
    digest = _digest(files)
    return Guest(name, digest, files if sum(map(len, files.values())) <= MOST_BYTES else {})


def _package_files(top: str) -> dict[str, bytes]:
    """The Python files of an importable package or module, by their path below the folder that holds it.

    Raises:
        ValueError: there is none.
    """
    spec = find_spec(top)
    if spec is None:
        raise ValueError(f"there is no module {top} here")
    if spec.submodule_search_locations is None:
        path = Path(spec.origin or "")
        return {path.name: path.read_bytes()} if path.suffix == ".py" else {}
    files = {}
    for root in map(Path, spec.submodule_search_locations):
        for path in sorted(root.rglob("*.py")):
            files[f"{top}/{path.relative_to(root).as_posix()}"] = path.read_bytes()
    return files


def _digest(files: Mapping[str, bytes]) -> str:
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{len(files[name])}\0".encode() + files[name])
    return whole.hexdigest()[:32]


def _loaded(guest: Guest, folder: Path) -> ModuleType:
    """Its module, run once in this process for as long as its files are the same.

    Raises:
        ValueError: it raises.
    """
    before = _LOADED.get(guest.module)
    if before is not None and before.digest == guest.digest:
        return sys.modules[guest.module]
    try:
        if guest.is_file:
            module = _run(guest, folder / guest.entry)
        else:
            if before is not None:
                raise ValueError("has changed since this process loaded it; start it anew")
            module = import_module(guest.module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        logger.info("%s: its own error", guest.entry, exc_info=True)
        raise ValueError(_last_line(error, guest.files)) from error
    _LOADED[guest.module] = guest
    return module


def _run(guest: Guest, path: Path) -> ModuleType:
    module = ModuleType(guest.module)
    module.__file__ = str(path)
    before = sys.modules.get(guest.module)
    sys.modules[guest.module] = module  # where what it defines is looked up, by pickle and by pydantic
    try:
        exec(compile(guest.files[guest.entry], str(path), "exec"), module.__dict__)  # a guest is code
    except BaseException:
        del sys.modules[guest.module]
        if before is not None:
            sys.modules[guest.module] = before
        raise
    return module


def _last_line(error: BaseException, own: Collection[str]) -> str:
    """What a guest raised, and the last line of its own files on the way there."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}" if error.lineno else error.msg
    files = {Path(name).name for name in own}
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name in files]
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = "" if len(files) == 1 or not frames else f"{Path(frames[-1].filename).name} "
    return f"{where}line {frames[-1].lineno}: {what}" if frames else what


def _members(guest: Guest, module: ModuleType) -> Iterator[tuple[tuple[str, str], type[Member]]]:
    """What it adds: the key of a family with a name, and the settings.

    Raises:
        ValueError: a class of settings is of no family, or its name is taken.
    """
    for member in list(vars(module).values()):
        if (
            not isinstance(member, type)
            or not issubclass(member, Member)
            or _top(member.__module__) != _top(guest.module)
        ):
            continue
        name = name_of(member)
        if name is None:
            continue  # a base of others
        family = _family_of(member)
        if name in family.members:
            raise ValueError(f"{member.__name__}: {family.key} have a {name} already; another name is needed")
        check_member(member)
        yield (family.key, name), member


def _is_factory(value: object) -> bool:
    return isinstance(value, FunctionType) or (isinstance(value, type) and not issubclass(value, BaseModel))


def _family_of(member: type[Member]) -> Family:
    for family in FAMILIES:
        if issubclass(member, named(family.base)):
            return family
    bases = ", ".join(family.base.partition(":")[2] for family in FAMILIES)
    raise ValueError(f"{member.__name__}: is of no family; it must derive from one of {bases}")


def _unpack(guest: Guest) -> None:
    """See that the package of a module is on this machine, in the same version; else put what travelled there."""
    top = _top(guest.module)
    try:
        here = _digest(_package_files(top))
    except ValueError:
        here = None
    if here == guest.digest:
        return
    if here is not None and top in sys.modules:
        raise ValueError(f"another version of {top} is loaded here already")
    if not guest.files:
        raise ValueError(f"{top} must be installed here as it is where the search began")
    folder = Path(tempfile.mkdtemp(prefix="bnnsearch-guest-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_files(guest.files, folder)
    sys.path.insert(0, str(folder))
    invalidate_caches()


def _is_base(module: str) -> bool:
    """Whether a module needs no digest: its version is recorded anyway, and is the same wherever a search runs."""
    return _top(module) in ("bnnsearch", "torch")


def _top(module: str) -> str:
    return module.partition(".")[0]
