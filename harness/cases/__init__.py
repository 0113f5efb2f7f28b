"""Run and check cases. There are three kinds: step cases, output cases and behaviour cases."""
