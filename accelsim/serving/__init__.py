"""Whole language models as they are served: the time of a step on one board, and what 2:4 buys."""

from accelsim.serving.schedule import Request
from accelsim.serving.software import NONE, ServingSoftware, load_serving
from accelsim.serving.step import COLUMNS, PARTS, Step, model_step, step_of

__all__ = ["COLUMNS", "NONE", "PARTS", "Request", "ServingSoftware", "Step", "load_serving", "model_step", "step_of"]
