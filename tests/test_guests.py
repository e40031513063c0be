"""Guests: members of families from outside, in every step from a space to a packed network, and what goes wrong."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from guest_fixtures import EXAMPLE, call, forget, installed, nobody, site, study  # noqa: F401

from bnnsearch.cluster.package import packaged
from bnnsearch.config import families, guests
from bnnsearch.config.trial import TrialConfig
from bnnsearch.core.teacher import fingerprint
from bnnsearch.packed.model import PackedModel
from bnnsearch.past import read_past
from bnnsearch.record import Reader
from bnnsearch.schema import space_schema
from bnnsearch.space import SpaceError, load_space
from bnnsearch.study.ray import RayExecutor
from bnnsearch.study.study import run_study
from bnnsearch.study.worker import _told_to_end

METHOD = '''
from typing import ClassVar, Literal

from bnnsearch.config.method import SteConfig


class OwnConfig(SteConfig):
    """The straight-through estimator, by another name."""

    builder: ClassVar[str] = "build"
    name: Literal["{name}"] = "{name}"


def build(config, optimizer):
    {first}
    return Ste(config, optimizer)
'''
"""A guest; its tests need no more of it than that it is another class."""

TRIAL = {
    "data": {"name": "digits", "train_limit": 200},
    "model": {"name": "mlp", "hidden": [16]},
    "method": {"name": "own"},
    "plan": {"epochs": 2},
}
SPACE = {
    "version": 1,
    "name": "own",
    "use": ["./own.py"],
    "objectives": [{"metric": "val_acc", "mode": "max"}],
    "budget": {"trials": 2},
    "retries": 0,
    "trial": TRIAL,
}


def guest(
    *, name: str = "own", first: str = "from bnnsearch.core.methods.ste import Ste", builder: str = "build"
) -> str:
    return METHOD.format(settings="OwnConfig", name=name, first=first, builder=builder)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a space and the file that it uses, where commands are called."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(guest())
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE, sort_keys=False))
    return tmp_path


class TestFile:
    def test_it_goes_all_the_way_to_a_packed_network(self, home: Path) -> None:
        assert "uses own.py: methods own" in call("validate", "space.yaml")
        call("run", "space.yaml", "--executor", "local")
        call("resume", "--trials", "3", "--executor", "local")
        assert "3/3 trials (3 complete)" in call("status")
        call("export", "-o", "elsewhere/best.yaml", "--no-register")
        assert yaml.safe_load(Path("elsewhere/best.yaml").read_text())["use"] == ["./own.py"]
        (home / "own.py").unlink()  # what was exported stands alone
        call("train", "elsewhere/best.yaml", "-o", "prod", "--no-track")
        (home / "elsewhere" / "own.py").unlink()
        guests._LOADED.clear()
        call("pack", "prod", "-o", "model.bnn")
        assert PackedModel.load(Path("model.bnn")).classes

    def test_a_trained_one_is_a_teacher(self, home: Path) -> None:
        call("run", "space.yaml", "--executor", "local", "--set", "budget.trials=1")
        call("export", "-o", "best.yaml", "--no-register")
        call("train", "best.yaml", "-o", "prod", "--no-track")
        guests._LOADED.clear()
        families.GUESTS.clear()
        teacher = {"name": "checkpoint", "path": "prod"}
        taught = {**TRIAL, "method": {"name": "ste"}, "distill": {"teacher": teacher}}
        (home / "taught.yaml").write_text(yaml.safe_dump(taught))
        call("train", "taught.yaml", "-o", "taught", "--no-track")

    def test_workers_have_it_without_the_file(self, home: Path, small_ray: None) -> None:
        space = load_space(home / "space.yaml")
        (home / "own.py").unlink()
        outcome = run_study(space, study_dir=home / "study", executor=RayExecutor())
        assert [result.state for result in outcome.results] == ["complete"] * 2
        (session,) = (event for event in Reader(home / "study" / "study.record").events(("session",)))
        assert session["guests"] == [{"entry": "own.py", "digest": space.guests[0].digest, "text": guest()}]

    def test_a_study_keeps_its_own_and_says_when_it_changed(self, home: Path) -> None:
        call("run", "space.yaml", "--executor", "local")
        copy = study().path / "own.py"
        assert copy.read_text() == guest()
        (home / "own.py").write_text("raise SystemExit")  # the user's own file is another matter
        copy.unlink()
        said = call("resume", "--trials", "3", "--executor", "local")
        assert copy.read_text() == guest(), said
        copy.write_text(guest() + "\n# edited\n")
        said = call("resume", "--trials", "4", "--executor", "local", code=2)
        assert "own.py has changed since the study began; bring it back as it was, or go on with" in said
        assert len(read_past(study()).results) == 3
        call("resume", "--trials", "4", "--executor", "local", "--changed-guests")
        assert len(read_past(study()).results) == 4
        call("resume", "--trials", "5", "--executor", "local")  # the record knows the new one

    def test_who_only_reads_a_study_needs_no_file(self, home: Path) -> None:
        call("run", "space.yaml", "--executor", "local")
        (study().path / "own.py").unlink()
        guests._LOADED.clear()
        families.GUESTS.clear()
        for words in (["status"], ["report"], ["export", "-o", "out/best.yaml", "--no-register"]):
            call(*words)
        assert (home / "out" / "own.py").read_text() == guest()

    def test_export_overwrites_no_other_file(self, home: Path) -> None:
        call("run", "space.yaml", "--executor", "local")
        (home / "own.py").write_text("mine = True")
        said = call("export", "-o", "best.yaml", "--no-register", code=2)
        assert "own.py: is another file than the own.py that is used; choose another folder" in said
        assert (home / "own.py").read_text() == "mine = True"

    def test_a_run_goes_on_only_with_the_same_file(self, home: Path) -> None:
        config = {**TRIAL, "use": ["./own.py"]}
        (home / "config.yaml").write_text(yaml.safe_dump(config))
        call("train", "config.yaml", "-o", "prod", "--no-track")
        (home / "own.py").write_text(guest() + "# another\n")
        said = call("train", "config.yaml", "-o", "prod", "--no-track", code=2)
        assert "prod/own.py: is another file than the own.py that is used" in said

    def test_what_it_does_is_part_of_what_a_run_depends_on(self, home: Path) -> None:
        def print_of() -> str:
            load_space(home / "space.yaml")
            return fingerprint(TrialConfig.model_validate({**TRIAL, "seed": 1}))

        first = print_of()
        assert print_of() == first
        (home / "own.py").write_text(guest() + "# another\n")
        assert print_of() != first

    def test_editors_know_it(self, home: Path) -> None:
        assert "OwnConfig" not in call("schema")
        assert '"searched.OwnConfig"' in call("schema", "space.yaml")

    def test_its_own_error_fails_the_trial_and_is_in_the_log(self, home: Path) -> None:
        (home / "own.py").write_text(guest(first="raise ValueError('no such luck')"))
        call("run", "space.yaml", "--executor", "local", code=1)
        results = read_past(study()).results
        assert [result.reason for result in results] == ["no such luck"] * 2
        assert 'own.py", line' in study().log.read_text()


BROKEN = {
    "missing.py": (None, "use.0: ./missing.py: No such file or directory"),
    "raises.py": ("x = 1\nx / 0\n", "use.0: ./raises.py: line 2: ZeroDivisionError: division by zero"),
    "exits.py": ("raise SystemExit\n", "use.0: ./exits.py: line 1: SystemExit"),
    "syntax.py": ("def f(:\n", "use.0: ./syntax.py: line 1: invalid syntax"),
    "lacks.py": ("import no_such_package\n", "line 1: ModuleNotFoundError: No module named 'no_such_package'"),
    "empty.py": ("x = 1\n", "use.0: ./empty.py: has no members: classes of settings"),
    "taken.py": (guest(name="bnew"), "use.0: ./taken.py: OwnConfig: methods have a bnew already"),
    "nowhere.py": (
        "from typing import Literal\nfrom bnnsearch.config.families import Member\n"
        "class Odd(Member):\n    name: Literal['odd'] = 'odd'\n",
        "use.0: ./nowhere.py: Odd: is of no family; it must derive from one of MethodSettings, ModelSettings",
    ),
    "plain.py": (
        "from typing import Literal\nfrom pydantic import BaseModel\n"
        "class PlainConfig(BaseModel):\n    name: Literal['plain'] = 'plain'\n",
        "use.0: ./plain.py: has no members: classes of settings that derive from the base of a family",
    ),
    "measured.py": (
        "from typing import Literal\nfrom bnnsearch import CostSettings\n"
        "class BytesConfig(CostSettings):\n    name: Literal['memory_bytes'] = 'memory_bytes'\n",
        "use.0: ./measured.py: line 3: ValueError: the metric memory_bytes is one of bnnsearch's own",
    ),
    "cheap.py": (
        "from typing import Literal\nfrom bnnsearch import CostSettings\n"
        "class CheapConfig(CostSettings):\n    name: Literal['ace'] = 'ace'\n",
        "use.0: ./cheap.py: line 3: ValueError: the metric ace is one of bnnsearch's own",
    ),
    "undefined.py": (
        "from __future__ import annotations\nfrom typing import Literal\n"
        "from bnnsearch.config.method import SteConfig\n"
        "class OddConfig(SteConfig):\n    name: Literal['odd'] = 'odd'\n    near: NoSuchType = None\n",
        "use.0: ./undefined.py: OddConfig: an annotation names NoSuchType, which is not there",
    ),
    "tensor.py": (
        "from typing import Literal\nfrom fractions import Fraction\nfrom bnnsearch.config.method import SteConfig\n"
        "class Odd:\n    pass\n"
        "class OddConfig(SteConfig):\n    name: Literal['odd'] = 'odd'\n    near: Odd = Odd()\n",
        "use.0: ./tensor.py: OddConfig: Unable to generate pydantic-core schema for <class",
    ),
    "default.py": (
        "from typing import Annotated, Literal\nfrom pydantic import Field\n"
        "from bnnsearch.config.method import SteConfig\n"
        "class OddConfig(SteConfig):\n    name: Literal['odd'] = 'odd'\n    k: Annotated[int, Field(le=3)] = 7\n",
        "use.0: ./default.py: OddConfig: the default of k breaks its own rule: Input should be less than or equal to 3",
    ),
    "validator.py": (
        "from typing import Literal\nfrom pydantic import model_validator\n"
        "from bnnsearch.config.method import SteConfig\n"
        "class OddConfig(SteConfig):\n    name: Literal['odd'] = 'odd'\n"
        "    @model_validator(mode='after')\n    def rule(self):\n        return {}['k']\n",
        "use.0: ./validator.py: OddConfig: its settings raise KeyError: 'k'",
    ),
    "unbuilt.py": (
        guest(builder="nobody").replace('"build"', '"nobody"'),
        "use.0: ./unbuilt.py: OwnConfig: its builder nobody is not in its module",
    ),
    "named.py": (guest(name="a/b"), "use.0: ./named.py: OwnConfig: its name must be letters, digits, _ and -, but got"),
    "nul.py": ("x = 1\0\n", "use.0: ./nul.py: source code string cannot contain null bytes"),
    "two words.py": ("x = 1\n", "must be a file beside the configuration whose name is a Python name"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_one_line_with_its_place(home: Path, name: str) -> None:
    text, said = BROKEN[name]
    if text is not None:
        (home / name).write_text(text)
    (home / "space.yaml").write_text(yaml.safe_dump({**SPACE, "use": [f"./{name}"]}, sort_keys=False))
    for words in (["validate", "space.yaml"], ["run", "space.yaml", "--executor", "local"]):
        lines = call(*words, code=2).splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("space.yaml:4:3: use.0: ")
        assert said in lines[0]
    assert not (home / "runs").exists()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("no_such_module.methods", "use.0: no_such_module.methods: there is no module no_such_module here"),
        ("../own.py", "use.0: ../own.py: must be a file beside the configuration"),
        ("/etc/own.py", "use.0: /etc/own.py: must be a file beside the configuration"),
        ("bnnsearch.config.method", "use.0: bnnsearch.config.method: is part of bnnsearch"),
        ("a b", "use.0: a b: must be a module, such as my_package.methods"),
        (3, "use.0: must be a valid string, but got 3"),
        ("os", "use.0: os: has no members"),
    ],
)
def test_entries_are_modules_or_files_beside_the_space(home: Path, entry: object, said: str) -> None:
    (home / "space.yaml").write_text(yaml.safe_dump({**SPACE, "use": [entry]}, sort_keys=False))
    assert said in call("validate", "space.yaml", code=2)


COUNTS = """
from typing import Literal
from bnnsearch import CostSettings, MeasureSettings

class ChipConfig(CostSettings):
    name: Literal["chip"] = "chip"
    def cost(self, network):
        return {cost}

class ShareConfig(MeasureSettings):
    name: Literal["share"] = "share"
    def measure(self, predicted, labels, classes):
        return {share}
"""


@pytest.mark.parametrize(
    ("cost", "share", "reason"),
    [
        ("float('nan')", "0.5", "cost model chip must give a finite number, but got nan"),
        ("1 / 0", "0.5", "division by zero"),
        ("'much'", "0.5", "cost model chip must give a finite number, but got much"),
        ("network.macs", "float('nan')", "val_share is nan after epoch 1"),
        ("network.macs", "1 / 0", "division by zero"),
    ],
)
def test_a_number_that_a_guest_does_not_give_is_the_reason_of_a_failed_trial(
    home: Path, cost: str, share: str, reason: str
) -> None:
    (home / "own.py").write_text(COUNTS.format(cost=cost, share=share))
    plan = {"epochs": 1, "metrics": ["share"], "costs": ["chip"]}
    goals = [{"metric": "val_share", "mode": "max"}, {"metric": "chip", "mode": "min"}]
    trial = {**TRIAL, "method": {"name": "ste"}, "plan": plan}
    space = {**SPACE, "objectives": goals, "trial": trial, "budget": {"trials": 1}}
    (home / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    call("run", "space.yaml", "--executor", "local", code=1)
    (result,) = read_past(study()).results
    assert result.state == "failed"
    assert reason in result.reason


def suggesting(how: str) -> str:
    """A guest's sampler whose suggestions are this statement."""
    return f"""
        from optuna.samplers import RandomSampler

        class OwnConfig(SamplerSettings):
            builder: ClassVar[str] = "Own"
            name: Literal["own"] = "own"

        class Own(RandomSampler):
            def __init__(self, config, seed):
                super().__init__(seed)

            def sample_independent(self, study, trial, name, distribution):
                {how}
        """


IN_THE_SEARCH = {
    "data_sets": (
        """
        from bnnsearch import DataSettings

        class OwnConfig(DataSettings):
            builder: ClassVar[str] = "load"
            name: Literal["own"] = "own"

        def load(config, device):
            raise KeyError("gone")
        """,
        {"data": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: line 10: KeyError: 'gone'",
    ),
    "shape": (
        """
        from bnnsearch.config.data import DigitsConfig

        class OwnConfig(DigitsConfig):
            name: Literal["own"] = "own"

            @property
            def known(self):
                return 1 / 0
        """,
        {"data": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: line 10: ZeroDivisionError: division by zero",
    ),
    "exits": (
        """
        import sys

        class OwnConfig(SamplerSettings):
            builder: ClassVar[str] = "build"
            name: Literal["own"] = "own"

        def build(config, seed):
            sys.exit("bye")
        """,
        {"sampler": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: line 10: SystemExit: bye",
    ),
    "kind": (
        """
        class OwnConfig(SamplerSettings):
            builder: ClassVar[str] = "build"
            name: Literal["own"] = "own"

        def build(config, seed):
            return 3
        """,
        {"sampler": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: build of own must return BaseSampler, but returns int",
    ),
    "data": (
        """
        from bnnsearch.config.data import DigitsConfig

        class OwnConfig(DigitsConfig):
            builder: ClassVar[str] = "build"
            name: Literal["own"] = "own"

        def build(config, device):
            return [config]
        """,
        {"data": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: build of own must return Dataset, but returns list",
    ),
    "raises": (
        suggesting('raise IndexError("oh")'),
        {"sampler": {"name": "own"}},
        "space.yaml:4:3: use.0: ./own.py: line 14: IndexError: oh",
    ),
    "outside": (
        suggesting("return 99"),
        {"sampler": {"name": "own"}},
        "sampler own suggests optimizer.lr = 99, which is outside of [0.001, 0.01]",
    ),
}


@pytest.mark.parametrize("name", IN_THE_SEARCH)
def test_what_a_guest_raises_outside_of_trials_is_one_line(home: Path, name: str) -> None:
    text, changes, said = IN_THE_SEARCH[name]
    head = "from typing import ClassVar, Literal\nfrom bnnsearch import SamplerSettings\n"
    (home / "own.py").write_text(head + dedent(text).removeprefix("\n"))
    drawn = {"name": "adam", "lr": {"type": "loguniform", "min": 1e-3, "max": 1e-2}}
    trial = {**TRIAL, "method": {"name": "ste"}, "optimizer": drawn}
    space: dict[str, object] = {**SPACE, "trial": trial}
    (space if "sampler" in changes else trial).update(changes)
    (home / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    lines = call("run", "space.yaml", "--executor", "local", code=2).splitlines()
    assert said in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    if name == "raises":
        assert 'own.py", line 14' in study().log.read_text()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("return", "build of own must return Method or Staged, but returns None"),
    ],
)
def test_what_ends_or_gives_nothing_fails_its_trial_alone(home: Path, first: str, reason: str) -> None:
    (home / "own.py").write_text(guest(first=first))
    call("run", "space.yaml", "--executor", "local", code=1)
    results = read_past(study()).results
    assert [result.state for result in results] == ["failed"] * 2
    assert all(reason in result.reason for result in results)


def test_a_process_that_is_told_to_end_ends_whatever_code_it_is_in() -> None:
    """Ray's workers raise SystemExit where SIGTERM comes, which must not be taken for the guest's own."""

    def handler(*_: object) -> None:
        sys.exit("told")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.sigtimedwait([], 1)
        assert _told_to_end(ended.value)
    finally:
        signal.signal(signal.SIGTERM, before)
    with pytest.raises(SystemExit) as own:
        sys.exit("own")
    assert not _told_to_end(own.value)


def test_two_files_may_not_have_one_name(home: Path) -> None:
    (home / "second.py").write_text(guest())
    (home / "space.yaml").write_text(yaml.safe_dump({**SPACE, "use": ["./own.py", "second.py"]}, sort_keys=False))
    said = call("validate", "space.yaml", code=2)
    assert "use.1: second.py: its own of methods is one of own.py already" in said


def test_use_stands_beside_the_trial(home: Path) -> None:
    space = {**SPACE, "trial": {**TRIAL, "use": ["./own.py"]}}
    (home / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    assert "trial.use: stands beside trial, not in it" in call("validate", "space.yaml", code=2)


def test_a_space_without_guests_imports_none(home: Path) -> None:
    (home / "own.py").write_text("raise SystemExit('was run')")
    told = {key: value for key, value in SPACE.items() if key != "use"}
    told["trial"] = {**TRIAL, "method": {"name": "ste"}}
    (home / "plain.yaml").write_text(yaml.safe_dump(told))
    call("validate", "plain.yaml")
    assert not families._asked, "not even the installed packages were asked"


@pytest.mark.usefixtures("installed")
class TestPackage:
    def test_its_members_are_there_by_name(self, tmp_path: Path, small_ray: None) -> None:
        """Ray's workers do not see the package: it travels."""
        space = load_space(EXAMPLE / "space.yaml", overrides=["budget.trials=4"])
        assert {member for each in space.guests for member in each.members} == {
            "methods tanh", "methods one_flip", "models strided", "optimizers lion", "schedules polynomial",
            "augmentations brightness", "data_sets stripes", "activations leaky", "samplers climber",
            "schedulers halfway", "metrics worst", "costs cycles",
        }  # fmt: skip
        outcome = run_study(space, study_dir=tmp_path / "study", executor=RayExecutor())
        assert {result.state for result in outcome.results} <= {"complete", "pruned"}
        assert len(outcome.results) == 4
        (session,) = Reader(tmp_path / "study" / "study.record").events(("session",))
        assert {each["digest"] for each in session["guests"]} == {each.digest for each in space.guests}

    def test_it_goes_all_the_way_to_a_packed_network(self, home: Path) -> None:
        """In short; `test_guest_package.py` installs it into a fresh environment, and has a cluster."""
        for words in (
            ["run", str(EXAMPLE / "space.yaml"), "--executor", "local", "--set", "budget.trials=1"],
            ["resume", "--executor", "local", "--trials", "2"],
            ["export", "-o", "best.yaml", "--no-register"],
            ["train", "best.yaml", "-o", "prod", "--no-track"],
            ["pack", "prod", "-o", "model.bnn"],
        ):
            call(*words)
        assert len(read_past(study()).results) == 2
        assert PackedModel.load(Path("model.bnn")).classes == ("rows", "columns")

    def test_a_cluster_that_lacks_it_finds_its_members_by_name(
        self,
        site: Path,  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        space = load_space(EXAMPLE / "space.yaml")
        with packaged(space.text, space.guests) as modules:
            (there,) = {str(Path(module).parent) for module in modules}
            monkeypatch.setattr(sys, "path", [there, *(each for each in sys.path if each != str(site))])
            forget()
            for name in [each for each in sys.modules if each.startswith("guest_bnn")]:
                del sys.modules[name]
            assert load_space(Path(there) / "bnnsearch_job" / "space.yaml").guests == space.guests

    def test_no_file_is_long(self) -> None:
        for path in (EXAMPLE / "guest_bnn").glob("*.py"):
            assert len(path.read_text().splitlines()) <= 80, path

    def test_a_name_is_looked_up_there_only_where_it_is_none_of_ours(self, tmp_path: Path) -> None:
        plain = {**SPACE, "use": [], "trial": {**TRIAL, "method": {"name": "ste"}}}
        (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain))
        assert load_space(tmp_path / "plain.yaml").guests == ()
        assert not [each for each in sys.modules if each.startswith("guest_bnn")]

    def test_editors_know_what_is_installed(self) -> None:
        assert "searched.TanhConfig" in space_schema()["$defs"]

    def test_a_package_that_cannot_be_loaded_is_said_where_it_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = tmp_path / "broken-1.0.dist-info"
        broken.mkdir()
        (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
        (broken / "entry_points.txt").write_text("[bnnsearch.methods]\nbroken = broken:Config\nodd = broken_odd:x\n")
        (tmp_path / "broken.py").write_text("raise RuntimeError('a bad day')")
        (tmp_path / "broken_odd.py").write_text("x = 3")
        monkeypatch.syspath_prepend(str(tmp_path))
        for name, reason in (
            ("broken", "cannot be loaded: RuntimeError: a bad day"),
            ("odd", "must be a class of settings"),
        ):
            space = {**SPACE, "use": [], "trial": {**TRIAL, "method": {"name": name}}}
            (tmp_path / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
            with pytest.raises(SpaceError, match=rf"trial\.method: the entry point {name} of broken, .*{reason}"):
                load_space(tmp_path / "space.yaml")


def test_another_version_on_a_node_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "travelled.py").write_text(guest(name="travelled"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (found,) = guests.use(["travelled"], tmp_path)
    guests.install([found])
    other = guests.Guest("travelled", "0" * 32, found.files)
    with pytest.raises(guests.GuestError, match="another version of travelled is loaded here already"):
        guests.install([other])
    large = guests.Guest("nowhere_here", "0" * 32, {})
    with pytest.raises(guests.GuestError, match="nowhere_here must be installed here as it is where the search began"):
        guests.install([large])
