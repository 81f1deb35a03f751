"""Training: configs, checks before the first epoch, hooks and schedules."""
