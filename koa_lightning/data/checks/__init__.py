"""What may be wrong with knees before anybody learns from them: each check returns findings, none changes a file."""
