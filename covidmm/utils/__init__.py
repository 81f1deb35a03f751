"""Plumbing that no other package owns: files, signals, processes, memory, boxes, provenance."""
