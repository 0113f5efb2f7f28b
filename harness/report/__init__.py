"""One stream of results on the controller; every report is made from it."""
