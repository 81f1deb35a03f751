"""Training, testing, and an ensemble over a folder: the jobs of tools, as functions."""
