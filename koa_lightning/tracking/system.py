"""The use of the machine, measured by MLflow's own monitors and sent like every other metric."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

SYSTEM_PREFIX = "system/"
"""Prefix of the names of these metrics; MLflow shows them on a page of their own."""
# MLflow says at each start that there is no GPU to watch.
logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)


class QueuedSystemMetrics(SystemMetricsMonitor):
    """Measures every 10 seconds (MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL) and once at the end.

    MLflow's own loop queries the server after each sample and stops for good if it does not answer; this one
    never queries it.

    Args:
        run_id: MLflow's id of the run.
        uri: MLflow's tracking URI.
        resumed: Whether the steps continue after those of the run.
        publish: Receives the values and their step.
    """

    def __init__(self, run_id: str, uri: str, resumed: bool, publish: Callable[[dict[str, float], int], None]) -> None:
        super().__init__(run_id, resume_logging=resumed, tracking_uri=uri)
        self._publish = publish

    def monitor(self) -> None:
        """Sample and publish until the end of the run."""
        self.collect_metrics()  # the first use of the processor is always read as 0
        for monitor in self.monitors:
            monitor.clear_metrics()
        ended = False
        while not ended:
            for _ in range(self.samples_before_logging):
                ended = self._shutdown_event.wait(self.sampling_interval)
                self.collect_metrics()
            self.publish_metrics(self.aggregate_metrics())

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Pass on the values of one step."""
        prefix = SYSTEM_PREFIX + (f"{self.node_id}/" if self.node_id else "")
        self._publish({prefix + name: float(value) for name, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        for monitor in self.monitors:
            monitor.clear_metrics()
