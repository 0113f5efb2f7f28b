"""Reports, all made from the stream of results on the controller."""
