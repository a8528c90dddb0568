"""`builtin:addition`: sums to train on, and a tiny Qwen3, dense or with experts, that is right about half of the time.

Called by `data` (the sums), by the trainer (`make_addition_model`) and by rollout pods (`skeleton_path`).
"""

from .cache import make_addition_model, skeleton_path
from .recipe import RECIPES, Recipe

__all__ = ["RECIPES", "Recipe", "make_addition_model", "skeleton_path"]
