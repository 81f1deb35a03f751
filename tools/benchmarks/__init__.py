"""What covidmm's speed claims rest on: each measured beside the plain way of doing the same."""
