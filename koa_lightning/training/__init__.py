"""Training: build, Lightning module, callbacks, augmentation, resuming, and what follows the fit."""
