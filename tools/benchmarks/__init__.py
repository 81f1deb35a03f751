"""The benchmarks: covidmm's speed beside the plain way of doing the same."""
