"""The report: sections of blocks, figures, checklists, and the page. Research use only, not a medical device."""
