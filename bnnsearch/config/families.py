"""Families: what a configuration can name, and where each name's settings are found.

A family is a kind of thing, such as the methods or the models; its members are told apart by `name`. Members are
imported when a configuration names them, and what they describe when it is built: to check a space takes no torch.

To add a member: a class of settings, derived from the family's base, that says what builds it; and a line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from bnnsearch.config.base import Settings


def named(place: str) -> Any:
    """What stands at `place`, `module:name`."""
    module, name = place.split(":")
    return getattr(import_module(module), name)


class Member(Settings):
    """Settings of a member of some family.

    Attributes:
        builder: place, `module:name`, of the function or class that builds what they describe: it is called with the
            settings, and with what the `build` of the family's base takes.
    """

    builder: ClassVar[str]

    if TYPE_CHECKING:
        name: str  # a literal, which every member declares

    def _built(self, *arguments: Any) -> Any:
        return named(self.builder)(self, *arguments)


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One kind of thing; as an annotation, `Annotated[BASE, FAMILY]`, the settings of any member.

    Attributes:
        base: place, `module:name`, of the class that all members derive from.
        members: places of the members' settings by name.
        bare: whether a bare name stands for its defaults.
    """

    base: str
    members: Mapping[str, str]
    bare: bool = False

    def only(self, kind: type[Member]) -> Family:
        """The family of those members that derive from `kind`."""
        members = {name: place for name, place in self.members.items() if issubclass(named(place), kind)}
        return Family(f"{kind.__module__}:{kind.__name__}", members)

    def all(self) -> tuple[type[Member], ...]:
        """The settings classes of all members."""
        return tuple(map(named, self.members.values()))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validated)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        members = {name: named(place).__pydantic_core_schema__ for name, place in self.members.items()}
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
        if not isinstance(name, str) or name not in self.members:
            known = ", ".join(map(repr, self.members))
            message = "Input tag '{tag}' found using 'name' does not match any of the expected tags: {known}"
            raise PydanticCustomError("union_tag_invalid", message, {"tag": str(name), "known": known})
        member: type[Member] = named(self.members[name])
        return member.model_validate(dict(value))


def _of(module: str, **members: str) -> dict[str, str]:
    return {name: f"bnnsearch.config.{module}:{settings}" for name, settings in members.items()}


METHODS = Family(
    "bnnsearch.config.method:MethodSettings",
    _of(
        "method",
        ste="SteConfig",
        bmd="BmdConfig",
        bop="BopConfig",
        bop2="Bop2Config",
        proxquant="ProxquantConfig",
        bnew="BnewConfig",
    )
    | _of(
        "evolution", naive="NaiveConfig", elitist="ElitistConfig", counting="CountingConfig", inertia="InertiaConfig"
    ),
)
MODELS = Family(
    "bnnsearch.config.model:ModelSettings",
    _of(
        "model",
        mlp="MlpConfig",
        cnn="CnnConfig",
        vgg_small="VggSmallConfig",
        xnornet="XnornetConfig",
        resnet20="Resnet20Config",
        resnet18="Resnet18Config",
        brn="BrnConfig",
        bireal18="Bireal18Config",
        realtobinary18="Realtobinary18Config",
        reactnet_a="ReactnetAConfig",
        xor_mlp="XorMlpConfig",
    ),
)
ACTIVATIONS = Family(
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
    "bnnsearch.config.optimizer:OptimizerSettings",
    _of("optimizer", adam="AdamConfig", sgd="SgdConfig", signum="SignumConfig"),
)
SCHEDULES = Family(
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
    "bnnsearch.config.data:DataSettings",
    _of(
        "data",
        digits="DigitsConfig",
        mnist="MnistConfig",
        cifar10="Cifar10Config",
        cifar100="Cifar100Config",
        image_folder="ImageFolderConfig",
        imagenet="ImagenetConfig",
    ),
)
SAMPLERS = Family(
    "bnnsearch.config.sampler:SamplerSettings",
    _of(
        "sampler",
        tpe="TpeConfig",
        nsga2="Nsga2Config",
        nsga3="Nsga3Config",
        gp="GpConfig",
        cmaes="CmaesConfig",
        random="RandomConfig",
        grid="GridConfig",
    ),
)
SCHEDULERS = Family(
    "bnnsearch.config.scheduler:SchedulerSettings",
    _of("scheduler", asha="AshaConfig", hyperband="HyperbandConfig", median="MedianConfig", none="NoSchedulerConfig"),
)
