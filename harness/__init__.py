"""From YAML suites to pytest: what an engine must do, asked through a driver, judged step by step."""
