"""How a case is run and checked, by kind."""
