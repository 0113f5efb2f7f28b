"""Create reports about a run from the records of its tests: an HTML page, Allure, JUnit and Markdown."""
