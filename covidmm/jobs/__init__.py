"""What the tools in ``tools/`` do, as functions."""
