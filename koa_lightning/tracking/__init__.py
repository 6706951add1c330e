"""All that knows MLflow.

A run is written by a thread of its own, so the training pays for a queue and nothing else; what a dead server
did not take is kept in the run folder and sent later by `python -m koa_lightning.tracking.resend FOLDER`.
"""

import os

# Set before any module here imports mlflow; what the user set stays. MLflow's own defaults (7 retries of 120
# seconds) make one call to a dead server last four minutes.
_QUICK_AND_QUIET = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
for _name, _value in _QUICK_AND_QUIET.items():
    os.environ.setdefault(_name, _value)
