"""The search space: a YAML tree in which any leaf may be a distribution, sampled into a `TrialConfig` tree."""

from bnnsearch.space.distribution import Suggest
from bnnsearch.space.load import Space, load_space, space_of, use_guests
from bnnsearch.space.node import Parameter
from bnnsearch.space.search_space import SearchSpace
from bnnsearch.space.tree import Problem, SpaceError

__all__ = [
    "Parameter",
    "Problem",
    "SearchSpace",
    "Space",
    "SpaceError",
    "Suggest",
    "load_space",
    "space_of",
    "use_guests",
]
