"""The catalogue: generated pages for every suite with its cases, and for every requirement.

Step tables come from runs of the reference engine's scheduler without a model, which must agree with the golden tables.
"""
