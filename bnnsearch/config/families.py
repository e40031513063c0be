"""Families: what a configuration can name, and where each name's settings are found.

A family is a kind of thing, such as the methods or the models; its members are told apart by `name`. Members are
imported when a configuration names them, and what they describe when it is built: to check a space takes no torch.

To add a member: a class of settings, derived from the family's base, that says what builds it; and a line here. Guests,
members that are no part of this package, need no line: see `bnnsearch.config.guests`; or an installed package names
them as entry points, `[project.entry-points."bnnsearch.methods"] mine = "my_package.settings:MineConfig"`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, ClassVar, cast

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, PydanticUserError, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bnnsearch.config.base import Settings
from bnnsearch.errors import InputError


def named(place: str) -> Any:
    """What stands at `place`, `module:name`."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


class Member(Settings):
    """Settings of a member of some family.

    Attributes:
        builder: place, `module:name`, of the function or class that builds what they describe, or its name where it
            stands in the module of the settings: it is called with the settings, and with what the `build` of the
            family's base takes.
        kinds: places, `module:name`, of the classes of which what it builds must be one; none where any will do.
    """

    builder: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        name: str  # a literal, which every member declares

    def _built(self, *arguments: Any) -> Any:
        if not hasattr(self, "builder"):
            raise ValueError(f"{type(self).__name__} must say what builds it: `builder: ClassVar[str] = 'build_mine'`")
        place = self.builder if ":" in self.builder else f"{type(self).__module__}:{self.builder}"
        built = named(place)(self, *arguments)
        kinds = tuple(map(named, self.kinds))
        if built is None or (kinds and not isinstance(built, kinds)):
            where = PLACES.get(type(self).__module__)
            wanted = " or ".join(kind.__name__ for kind in kinds) or "what it builds"
            raise InputError(
                f"{f'{where}: ' if where else ''}{self.builder} of {self.name} must return {wanted}, "
                f"but returns {None if built is None else type(built).__name__}"
            )
        return built

    def code_modules(self) -> tuple[str, ...]:
        """Modules whose code decides what they describe: that of the settings, and what the settings name."""
        return (type(self).__module__,)


PLACES: dict[str, str] = {}
"""Where a configuration names a guest, `file:line:col: use.0: entry`, by its module: for messages."""


GUESTS: dict[tuple[str, str], type[Member]] = {}
"""Guests by the key of their family and their name, as far as `use:` has brought them here."""


@cache
def _installed(key: str) -> Mapping[str, EntryPoint]:
    """The guests of a family that installed packages offer; none is imported by asking."""
    _asked.add(key)
    return {each.name: each for each in entry_points(group=f"bnnsearch.{key}")}


_asked: set[str] = set()
"""Families in which a name was looked up that is none of ours."""


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One kind of thing; as an annotation, `Annotated[BASE, FAMILY]`, the settings of any member.

    Attributes:
        key: what it is called, as in the group of its entry points, `bnnsearch.KEY`.
        base: place, `module:name`, of the class that all members derive from.
        members: places of our own members' settings by name.
        bare: whether a bare name stands for its defaults.
    """

    key: str
    base: str
    members: Mapping[str, str]
    bare: bool = False

    def only(self, kind: type[Member]) -> Family:
        """The family of those members that derive from `kind`."""
        members = {name: place for name, place in self.members.items() if issubclass(named(place), kind)}
        return Family(self.key, f"{kind.__module__}:{kind.__name__}", members, self.bare)

    def names(self) -> list[str]:
        """What a configuration can name here now: our own members, guests in use, those of installed packages."""
        guests = [name for key, name in GUESTS if key == self.key and self.member(name)]
        return list(dict.fromkeys([*self.members, *guests, *_installed(self.key)]))

    def member(self, name: str) -> type[Member] | None:
        """The settings class of a member; None where there is no such member.

        Raises:
            ValueError: an installed package offers it, but it is no member of this family.
        """
        if name in self.members:
            return cast(type[Member], named(self.members[name]))
        found = GUESTS.get((self.key, name))
        if found is None and name in _installed(self.key):
            found = self._loaded(_installed(self.key)[name])
        return found if found is not None and issubclass(found, named(self.base)) else None

    def installed_in_use(self) -> list[str]:
        """Names of guests of installed packages, once one was looked for; without, there are none in use."""
        return [name for name in _installed(self.key) if name not in self.members] if self.key in _asked else []

    def _loaded(self, point: EntryPoint) -> type[Member]:
        source = f"the entry point {point.name} of {point.dist.name if point.dist else 'a package'}, {point.value},"
        try:
            member = point.load()
        except (Exception, SystemExit) as error:  # a stranger's code may raise whatever it likes
            raise ValueError(f"{source} cannot be loaded: {type(error).__name__}: {error}") from error
        if not isinstance(member, type) or not issubclass(member, Member) or name_of(member) != point.name:
            raise ValueError(f"{source} must be a class of settings with the name {point.name}")
        check_member(member)
        return member

    def all(self) -> tuple[type[Member], ...]:
        """The settings classes of all members."""
        return tuple(filter(None, map(self.member, self.names())))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        members = {name_of(member): member.__pydantic_core_schema__ for member in self.all()}
        settings = handler(core_schema.tagged_union_schema(members, discriminator="name"))
        names = {"enum": list(members), "type": "string"}
        return {"anyOf": [names, settings]} if self.bare else settings

    def _validated(self, value: Any) -> Member:
        if isinstance(value, named(self.base)):
            settings: Member = value
            return settings
        if self.bare and isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError("dict_type", "Input should be a mapping of settings")
        if "name" not in value:
            raise PydanticCustomError("union_tag_not_found", "Unable to extract tag using discriminator 'name'")
        name = value["name"]
        try:
            member = self.member(name) if isinstance(name, str) else None
        except ValueError as error:
            raise PydanticCustomError("guest", "{problem}", {"problem": str(error)}) from error
        if member is None:
            known = ", ".join(map(repr, self.names()))
            message = "Input tag '{tag}' found using 'name' does not match any of the expected tags: {known}"
            raise PydanticCustomError("union_tag_invalid", message, {"tag": str(name), "known": known})
        return member.model_validate(dict(value))


def installed_modules() -> set[str]:
    """Modules of the guests that installed packages offer, in families where one was looked for."""
    return {point.module for key in _asked for point in _installed(key).values()}


def name_of(member: type[Member]) -> str | None:
    """The name that a configuration gives it; None where it has none, so that others derive from it."""
    field = member.model_fields.get("name")
    return field.default if field is not None and isinstance(field.default, str) else None


@cache
def check_member(member: type[Member]) -> None:
    """See that a guest's settings can be read and written, and that what builds them is there.

    Raises:
        ValueError: an annotation names what is not there, or a type that no file can hold; a default breaks its own
            rule; the name is no word; or the module has no such builder.
    """
    name, builder = name_of(member) or "", getattr(member, "builder", ":")
    if not re.fullmatch(r"\w[\w-]*", name):
        raise ValueError(f"{member.__name__}: its name must be letters, digits, _ and -, but got {name!r}")
    if not isinstance(builder, str):
        raise ValueError(f"{member.__name__}: its builder must be a name, but got {builder!r}")
    if ":" not in builder and not hasattr(sys.modules[member.__module__], builder):
        raise ValueError(f"{member.__name__}: its builder {builder} is not in its module")
    try:
        member.model_rebuild()
        member.model_validate({})
    except PydanticUndefinedAnnotation as error:
        raise ValueError(f"{member.__name__}: an annotation names {error.name}, which is not there") from error
    except PydanticUserError as error:
        raise ValueError(f"{member.__name__}: {error.message.splitlines()[0]}") from error
    except ValidationError as failed:  # what has no default is a configuration's to give
        broken = [each for each in failed.errors(include_url=False) if each["type"] != "missing" and each["loc"]]
        if broken:
            place, rule = ".".join(map(str, broken[0]["loc"])), f"{broken[0]['msg']}, but got {broken[0]['input']!r}"
            raise ValueError(f"{member.__name__}: the default of {place} breaks its own rule: {rule}") from failed
    except Exception as error:  # a stranger's code may raise whatever it likes
        raise ValueError(f"{member.__name__}: its settings raise {type(error).__name__}: {error}") from error


def _of(module: str, **members: str) -> dict[str, str]:
    return {name: f"bnnsearch.config.{module}:{settings}" for name, settings in members.items()}


METHODS = Family(
    "methods",
    "bnnsearch.config.method:MethodSettings",
    _of(
        "method",
        ste="SteConfig",
        bmd="BmdConfig",
        bop="BopConfig",
        bop2="Bop2Config",
        proxquant="ProxquantConfig",
        bnew="BnewConfig",
        irnet="IrnetConfig",
        reste="ResteConfig",
        biper="BiperConfig",
        adabin="AdabinConfig",
    )
    | _of(
        "evolution", naive="NaiveConfig", elitist="ElitistConfig", counting="CountingConfig", inertia="InertiaConfig"
    ),
)
MODELS = Family(
    "models",
    "bnnsearch.config.model:ModelSettings",
    _of(
        "model",
        mlp="MlpConfig",
        cnn="CnnConfig",
        cnn1d="Cnn1dConfig",
        vgg_small="VggSmallConfig",
        xnornet="XnornetConfig",
        resnet20="Resnet20Config",
        resnet18="Resnet18Config",
        brn="BrnConfig",
        bireal18="Bireal18Config",
        realtobinary18="Realtobinary18Config",
        reactnet_a="ReactnetAConfig",
        xor_mlp="XorMlpConfig",
    )
    | _of("torch_model", torch="TorchConfig"),
)
ACTIVATIONS = Family(
    "activations",
    "bnnsearch.config.activation:ActivationSettings",
    _of(
        "activation",
        hardtanh="HardtanhConfig",
        rprelu="RpreluConfig",
        prelu="PreluConfig",
        none="NoActivationConfig",
    ),
    bare=True,
)
OPTIMIZERS = Family(
    "optimizers",
    "bnnsearch.config.optimizer:OptimizerSettings",
    _of("optimizer", adam="AdamConfig", sgd="SgdConfig", signum="SignumConfig"),
)
SCHEDULES = Family(
    "schedules",
    "bnnsearch.config.plan:ScheduleSettings",
    _of(
        "plan",
        linear="LinearConfig",
        cosine="CosineConfig",
        warm_restarts="WarmRestartsConfig",
        constant="ConstantConfig",
    ),
)
AUGMENTATIONS = Family(
    "augmentations",
    "bnnsearch.config.data:AugmentationSettings",
    _of(
        "data",
        crop="CropConfig",
        flip="FlipConfig",
        rotation="RotationConfig",
        cutout="CutoutConfig",
        shift="ShiftConfig",
        lighting="LightingConfig",
    ),
    bare=True,
)
DATA_SETS = Family(
    "data_sets",
    "bnnsearch.config.data:DataSettings",
    _of(
        "data",
        digits="DigitsConfig",
        mnist="MnistConfig",
        cifar10="Cifar10Config",
        cifar100="Cifar100Config",
        image_folder="ImageFolderConfig",
        arrays="ArraysConfig",
        huggingface="HuggingfaceConfig",
        imagenet="ImagenetConfig",
    ),
)
SAMPLERS = Family(
    "samplers",
    "bnnsearch.config.sampler:SamplerSettings",
    _of(
        "sampler",
        tpe="TpeConfig",
        auto="AutoConfig",
        nsga2="Nsga2Config",
        nsga3="Nsga3Config",
        gp="GpConfig",
        cmaes="CmaesConfig",
        random="RandomConfig",
        grid="GridConfig",
        hub="HubConfig",
    ),
)
SCHEDULERS = Family(
    "schedulers",
    "bnnsearch.config.scheduler:SchedulerSettings",
    _of("scheduler", asha="AshaConfig", hyperband="HyperbandConfig", median="MedianConfig", none="NoSchedulerConfig"),
)
TRAINERS = Family("trainers", "bnnsearch.config.trainer:TrainerSettings", {})
"""Training code of one's own; what trains by our methods needs no name."""

MEASURES = Family(
    "metrics", "bnnsearch.config.measure:MeasureSettings", _of("measure", macro_f1="MacroF1Config"), bare=True
)
COSTS = Family(
    "costs", "bnnsearch.config.cost:CostSettings", _of("cost", ace="AceConfig", energy="EnergyConfig"), bare=True
)

FAMILIES = (
    METHODS, MODELS, ACTIVATIONS, OPTIMIZERS, SCHEDULES, AUGMENTATIONS, DATA_SETS, SAMPLERS, SCHEDULERS, TRAINERS,
    MEASURES, COSTS,
)  # fmt: skip
