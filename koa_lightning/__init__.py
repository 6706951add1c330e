"""koa_lightning: an experiment bench for grading knee osteoarthritis on radiographs.

Research use only, not a medical device. This file stays free of heavy imports, so that `--help` answers at once.
"""

__version__ = "0.2.0.dev0"
DISCLAIMER = "research use only, not a medical device"  # on every page, figure and report
