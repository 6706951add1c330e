"""A checkpoint as a service: the MLflow model and the model registry."""
