"""Figures of a sweep."""
# Optuna's own figures (optuna.visualization.matplotlib) are not used: they are experimental, change matplotlib's style
# for the whole process, and take neither a size nor a caveat, so they cannot be printed at the width of a column.
