# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["smac>=2.4,<3"]
# ///
"""SMAC3's multi-fidelity facade for `public_surrogates.py`: Hyperband with a random forest; ParEGO with two objectives.

Reads one JSON line for each question and answers it by one: the first line is the problem.
"""

import json
import logging
import sys
import tempfile

from ConfigSpace import Categorical, ConfigurationSpace, Float, Integer
from smac import HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
from smac.runhistory.dataclasses import TrialInfo, TrialValue


def domain(name, leaf):
    if leaf["type"] == "choice":
        return Categorical(name, leaf["values"])
    kind = Integer if leaf["type"].endswith("randint") else Float
    return kind(name, (leaf["min"], leaf["max"]), log=leaf["type"].startswith("log"))


problem = json.loads(sys.stdin.readline())
space = ConfigurationSpace(seed=problem["seed"])
space.add(*(domain(name, leaf) for name, leaf in problem["space"].items()))
names = [f"loss{place}" for place in range(problem["objectives"])]
halves = problem["epochs"] > 1 and len(names) == 1


def unused(config, seed=0, budget=0):  # SMAC looks at the names
    """What SMAC would call, were it not asked and told."""
    raise NotImplementedError


with tempfile.TemporaryDirectory() as folder:
    budgets = {"min_budget": 1, "max_budget": problem["epochs"]} if halves else {}
    scenario = Scenario(
        space,
        objectives=names,
        deterministic=True,
        n_trials=100_000,
        seed=problem["seed"],
        output_directory=folder,
        **budgets,
    )
    facade_class = MultiFidelityFacade if halves else HyperparameterOptimizationFacade
    facade = facade_class(
        scenario,
        unused,
        multi_objective_algorithm=facade_class.get_multi_objective_algorithm(scenario) if len(names) > 1 else None,
        logging_level=logging.ERROR,
        overwrite=True,
    )
    asked_for, known = {}, {}
    for line in sys.stdin:
        asked = json.loads(line)
        if "trial" not in asked:
            info = facade.ask()
            key = known.setdefault(info.config, len(known))
            asked_for[key] = info
            plain = {
                name: value.item() if hasattr(value, "item") else value for name, value in dict(info.config).items()
            }
            answer = {"trial": key, "config": plain, "until": max(1, round(info.budget or problem["epochs"]))}
        else:
            info: TrialInfo = asked_for[asked["trial"]]
            cost = asked["losses"] if len(names) > 1 else asked["losses"][0]
            facade.tell(info, TrialValue(cost=cost), save=False)
            answer = {"on": False}
        print(json.dumps(answer), flush=True)
