"""Read and write golden step tables, the expected steps of cases with ``expect: {steps: golden}``."""
