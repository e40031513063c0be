"""Selection by knee, best, number and limits; best.yaml written, read back, and refused where it is wrong."""

import pytest
from ruamel.yaml import YAML

from bnnsearch.config.study import Objective, TrackingConfig
from bnnsearch.config.trial import TrialConfig
from bnnsearch.errors import EnvironmentProblem, InputError
from bnnsearch.export import Provenance, Selection, export_best, load_trial, repeated, select_trial
from bnnsearch.results import TrialResult, TrialState

OBJECTIVES = (Objective(metric="val_acc", mode="max"), Objective(metric="memory_bytes", mode="min"))
CONFIG = {
    "data": {"name": "digits", "batch_size": 32},
    "model": {"name": "mlp", "hidden": [64, 64]},
    "method": {"name": "ste"},
    "optimizer": {"name": "adam", "lr": 1e-5},
    "plan": {"epochs": 3},
    "seed": 1234567,
}


def trial(number, accuracy, memory, state=TrialState.COMPLETE, **more):
    metrics = {"val_acc": accuracy, "memory_bytes": memory, "latency_ms": 10.0 - number}
    return TrialResult(number=number, state=state, config=CONFIG, params={}, metrics=metrics, **more)


RESULTS = [
    trial(0, 0.98, 100),
    trial(1, 0.95, 40),
    trial(2, 0.70, 20),
    trial(3, 0.94, 45),
    trial(4, 0.99, 10, TrialState.PRUNED, reason="stopped at the rung of epoch 1"),
    trial(5, 0.99, 10, violations={"memory_bytes": -3, "bops": 7}),
]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), 1),
        (Selection("best"), 0),
        (Selection("best", "val_acc", where=["memory_bytes<=20"]), 2),
        (Selection("best", "latency_ms", where=["val_acc>.9"]), 3),
        (Selection("trial", number=3), 3),
    ],
)
def test_select(selection, expected):
    assert select_trial(RESULTS, OBJECTIVES, selection).number == expected


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection("trial", number=9), "no ended trial 9; the last is trial 5"),
        (Selection("trial", number=4), r"trial 4 is pruned \(stopped at the rung of epoch 1\)"),
        (Selection("trial", number=5), "trial 5 is outside the study's constraints: bops by 7"),
        (Selection("trial", number=3, where=["memory_bytes<=20"]), "nearest is trial 3 with memory_bytes=45"),
        (Selection("best", where=["memory_bytes<=5"]), "nearest is trial 2 with memory_bytes=20, val_acc=0.7"),
        (Selection("best", "accuracy"), "recorded are latency_ms, memory_bytes, val_acc"),
    ],
)
def test_select_refuses(selection, message):
    with pytest.raises(InputError, match=message):
        select_trial(RESULTS, OBJECTIVES, selection)


@pytest.fixture
def best(tmp_path):
    path = tmp_path / "new" / "best.yaml"
    provenance = Provenance(study="digits", search_id="digits-1", trial=0, run_id="abc", deviation={"val_acc": 0.012})
    export_best(RESULTS, OBJECTIVES, selection=Selection(), provenance=provenance, path=path)
    return path


def test_exported_file_is_the_trial(best):
    config, provenance = load_trial(best)
    assert config == TrialConfig.model_validate(CONFIG)
    assert (provenance.study, provenance.trial, provenance.run_id) == ("digits", 1, "abc")
    assert provenance.expected == {"val_acc": 0.95, "memory_bytes": 40, "latency_ms": 9.0}
    assert provenance.selected == "knee of the front"
    assert {"bnnsearch", "python", "torch", "numpy"} <= provenance.versions.keys()


def test_repeats_replace_what_luck_measured():
    seeds = []

    def train(config):
        seeds.append(config.seed)
        return {"val_acc": [0.90, 0.92][len(seeds) - 1]}

    origin = Provenance(study="a", search_id="b", trial=0)
    found = repeated(origin, TrialConfig.model_validate(CONFIG), repeats=2, train=train)
    assert seeds == [1234568, 1234569]
    assert found.expected == {"val_acc": pytest.approx(0.91)}
    assert found.deviation == {"val_acc": pytest.approx(0.01 * 2**0.5)}
    assert found.repeats == 2


def test_repeats_are_written_beside_what_they_do_not_measure(tmp_path):
    path = tmp_path / "best.yaml"
    provenance = Provenance(study="a", search_id="b", trial=0, expected={"val_acc": 0.91}, repeats=1)
    export_best(RESULTS, OBJECTIVES, selection=Selection(), provenance=provenance, path=path)
    _, read = load_trial(path)
    assert (read.expected["val_acc"], read.expected["memory_bytes"], read.repeats) == (0.91, 40, 1)


def test_exported_file_leaves_nothing_implied(best):
    tree = YAML(typ="safe").load(best)
    assert tree.pop("provenance")["trial"] == 1
    assert tree == TrialConfig.model_validate(CONFIG).model_dump(mode="json")


def test_exported_file_tells_a_reader_what_it_is(best):
    header = [line for line in best.read_text().splitlines() if line.startswith("#")]
    assert header[0] == "# Trial 1 of the study digits (digits-1), knee of the front."
    assert header[1] == "# Expected: val_acc 0.95 +- 0.012, memory_bytes 40, latency_ms 9."


def test_a_tree_without_provenance_is_read_too(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("data: {name: digits}\nmodel: {name: mlp}\nmethod: {name: ste}\n")
    config, provenance = load_trial(path)
    assert provenance is None
    assert config.data.name == "digits"


GOOD = "data: {name: digits}\nmodel: {name: mlp}\nmethod: {name: ste}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", ":1:1: a training run is a mapping of settings, but got"),
        (
            "version: 1\nobjectives: []\ntrial: {}\n",
            ":1:1: this is a space to search, by `run`; what is trained is one",
        ),
        ("data: {name: digits}\nmodel: {name: mlp}\n", ":1:1: method: required, but missing"),
        (GOOD + "seed: many\n", ":4:7: seed: must be a valid integer.*, but got 'many'"),
        (GOOD + "sead: 3\n", ":4:1: sead: unknown key, did you mean 'seed'"),
        (GOOD.replace("name: mlp", "name: mlp, hidden: [3, 0]"), r":2:32: model.hidden.1: must be .*, but got 0"),
        (GOOD.replace("mlp", "vgg"), ":2:15: model: unknown name 'vgg'"),
        (GOOD.replace("name: ste", ""), ":3:1: method.name: required, but missing"),
        (GOOD + "provenance: {study: a, search_id: b, trial: x}\n", ":4:45: provenance.trial: must .*, but got 'x'"),
        (GOOD + "plan: {epochs: 3\n", ":5:1: not YAML"),
        (
            GOOD.replace("digits", "mnist, root: '${NO_SUCH_VARIABLE}'"),
            ":1:27: the environment has no variable NO_SUCH",
        ),
    ],
)
def test_a_bad_file_is_refused_at_its_place(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^{path}{message}"):
        load_trial(path)


def test_a_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"none.yaml: cannot be read: No such file"):
        load_trial(tmp_path / "none.yaml")


def test_a_place_that_cannot_be_written_is_the_environments_fault(tmp_path):
    (tmp_path / "file").write_text("in the way")
    provenance = Provenance(study="a", search_id="b", trial=0)
    with pytest.raises(EnvironmentProblem, match="cannot be written"):
        path = tmp_path / "file" / "best.yaml"
        export_best(RESULTS, OBJECTIVES, selection=Selection(), provenance=provenance, path=path)


def test_a_password_that_a_variable_held_is_not_exported():
    for uri, kept in (("http://user:canary@host:5000", None), ("http://host:5000", "http://host:5000")):
        provenance = Provenance(study="s", search_id="1", trial=0, tracking=TrackingConfig(uri=uri, experiment="e"))
        assert provenance.tracking == TrackingConfig(uri=kept, experiment="e")
        assert "canary" not in provenance.model_dump_json()
