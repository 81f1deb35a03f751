"""Checks of data sets: leaks, duplicates, label conflicts, shortcuts, subgroups."""
