"""A plain Flower 1.42 app: FedAvg as shipped, clients that return what they get at once.

Copied into a bundle by `flower_rounds`; it stands for what a user of Flower writes.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

server = ServerApp()
client = ClientApp()


class TimedFedAvg(FedAvg):
    """FedAvg that notes when each round begins."""

    def __init__(self, sites: int) -> None:
        super().__init__(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=sites,
            min_available_nodes=sites,
        )
        self.began: list[float] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Note the time, then do what FedAvg does."""
        self.began.append(time.monotonic())
        return super().configure_train(server_round, arrays, config, grid)


@server.main()
def run(grid: Grid, context: Context) -> None:
    """Run the rounds and write how long each took."""
    order = json.loads(Path(str(context.run_config["order"])).read_text())
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal(shape, dtype=np.float32) for shape in order["shapes"]]
    strategy = TimedFedAvg(order["sites"])
    strategy.start(grid=grid, initial_arrays=ArrayRecord(arrays), num_rounds=order["rounds"])
    moments = [*strategy.began, time.monotonic()]
    seconds = [after - before for before, after in itertools.pairwise(moments)]
    part = Path(order["out"] + ".part")
    part.write_text(json.dumps(seconds))
    part.replace(order["out"])


@client.train()
def train(message: Message, context: Context) -> Message:
    """Return the arrays untouched."""
    content = RecordDict(
        {"arrays": message.content["arrays"], "metrics": MetricRecord({"num-examples": 1})}
    )
    return Message(content, reply_to=message)
