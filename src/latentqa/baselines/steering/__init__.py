"""Methods of steering: what this library's own are compared with, and those themselves, all made alike.

Each turns an aim into a `Treatment`, which experiments put on and take off alike. Importing this loads no
torch.
"""

from latentqa.baselines.steering.aim import Aim
from latentqa.baselines.steering.registry import METHODS, MethodSpec, make_treatment

__all__ = ["Aim", "METHODS", "MethodSpec", "make_treatment"]
