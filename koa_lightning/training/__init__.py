"""Training: build, Lightning module, callbacks, augmentation, resuming, and the steps after the fit."""
