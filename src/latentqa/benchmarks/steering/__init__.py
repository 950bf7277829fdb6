"""The steering experiments: debias, sentiment and topic, on the runner that the reading experiments have.

Importing this loads no torch.
"""

from latentqa.benchmarks.steering.debias import DebiasSettings, debias
from latentqa.benchmarks.steering.experiment import SteeringExperiment, SteeringSettings, SteeringTools
from latentqa.benchmarks.steering.sentiment import SentimentSettings, sentiment
from latentqa.benchmarks.steering.topic import TopicSettings, topic

__all__ = [
    "DebiasSettings",
    "SentimentSettings",
    "SteeringExperiment",
    "SteeringSettings",
    "SteeringTools",
    "TopicSettings",
    "debias",
    "sentiment",
    "topic",
]
