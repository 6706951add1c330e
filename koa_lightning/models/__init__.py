"""Backbone, head and the one LightningModule."""
