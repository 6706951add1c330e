"""Serve a checkpoint: exports, the HTTP service, the MLflow model and the model registry."""
