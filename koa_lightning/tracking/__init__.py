"""Everything that uses MLflow.

A separate thread writes each run, so the training pays only for a queue. Entries that a dead server did not accept
stay in the run folder; `python -m koa_lightning.tracking.resend FOLDER` sends them later.
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
