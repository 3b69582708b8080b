"""Learning rate: one value for each step of the whole run, the same at every site.

The schedule depends on the public step number alone, never on data, so it costs
no privacy and a resumed run continues where it was.
"""

from __future__ import annotations

import math

from pleura.common.orders import TrainSpec


def learning_rate(train: TrainSpec, step: int, total_steps: int) -> float:
    """Return the learning rate of a step.

    Args:
        train: the plan's training spec.
        step: steps of this run already done at a site, from 0.
        total_steps: rounds x local_steps of the plan.
    """
    base = float(train.lr)
    if train.schedule == "constant":
        return base
    return base * 0.5 * (1.0 + math.cos(math.pi * min(step, total_steps) / total_steps))
