"""Faster equivalents of code in engine/model and of ibm-fms. Tests check that each gives the same results."""
