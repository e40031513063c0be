"""The summary: what the table says is what the costs say."""

import json

from bnnsearch.config.model import MlpConfig
from bnnsearch.core.cost import model_cost
from bnnsearch.core.models.build import build_model
from bnnsearch.core.summary import summary, summary_table

SHAPE = (1, 8, 8)
COST = model_cost(build_model(MlpConfig(hidden=(16, 8)), shape=SHAPE, classes=10), SHAPE)


def test_summary_survives_json_and_adds_up() -> None:
    read = json.loads(json.dumps(summary(COST), allow_nan=False))
    layers, totals = read["layers"], read["totals"]
    assert sum(layer["params"] for layer in layers) == totals["params"] == 64 * 16 + 32 + 16 * 8 + 16 + 90
    assert sum(layer["bops"] for layer in layers) == totals["bops"] == 64 * 16 + 16 * 8
    assert sum(layer["flops"] for layer in layers) == totals["flops"] == 80
    assert "Horowitz" in totals["energy_model"]


def test_table_has_a_line_per_layer_with_parameters_and_the_totals() -> None:
    lines = summary_table(COST).splitlines()
    assert lines[2].split() == ["layer1.linear", "BinaryLinear", "16", "1,024", "0", "128", "128", "1,024", "0"]
    named = [layer.name for layer in COST.layers if layer.params]
    assert [line.split()[0] for line in lines[2 : 2 + len(named)]] == named
    total = next(line for line in lines if line.startswith("total")).split()
    assert total == ["total", "1,152", "138", f"{COST.memory_bytes:,}", f"{COST.folded_memory_bytes:,}", "1,152", "80"]
