# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["syne-tune>=0.16,<0.17"]
# ///
"""Syne Tune's multi-objective ASHA, and its ASHA with conformal quantile regression, for `public_surrogates.py`.

Reads one JSON line for each question and answers it by one: the first line is the problem.
"""

import json
import sys

import numpy as np
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import ASHACQR
from syne_tune.optimizer.scheduler import SchedulerDecision
from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA


def domain(leaf):
    if leaf["type"] == "choice":
        return choice(leaf["values"])
    kinds = {"uniform": uniform, "loguniform": loguniform, "randint": randint, "lograndint": lograndint}
    return kinds[leaf["type"]](leaf["min"], leaf["max"])


problem = json.loads(sys.stdin.readline())
np.random.seed(problem["seed"])
space = {name: domain(leaf) for name, leaf in problem["space"].items()}
names = [f"loss{place}" for place in range(problem["objectives"])]
if problem["objectives"] > 1:
    scheduler = MOASHA(space, names, time_attr="epoch", max_t=problem["epochs"], random_seed=problem["seed"])
else:
    scheduler = ASHACQR(space, names[0], "epoch", problem["epochs"], random_seed=problem["seed"])
trials = {}
for line in sys.stdin:
    asked = json.loads(line)
    if "trial" not in asked:
        config = scheduler.suggest().config
        number = len(trials)
        trials[number] = Trial(number, config, None)
        scheduler.on_trial_add(trials[number])
        plain = {name: value.item() if hasattr(value, "item") else value for name, value in config.items()}
        answer = {"trial": number, "config": plain, "until": problem["epochs"]}
    else:
        trial, result = (
            trials[asked["trial"]],
            dict(zip(names, asked["losses"], strict=True)) | {"epoch": asked["epoch"]},
        )
        if asked["epoch"] >= problem["epochs"]:
            scheduler.on_trial_complete(trial, result)
            answer = {"on": False}
        else:
            answer = {"on": scheduler.on_trial_result(trial, result) == SchedulerDecision.CONTINUE}
            if not answer["on"]:
                scheduler.on_trial_remove(trial)
    print(json.dumps(answer), flush=True)
