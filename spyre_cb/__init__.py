"""What pytest loads of spyre-cb in everybody's sessions, and the data that its wheel carries.

Nothing here imports the harness until a session has suites of ours: other people may have a package ``harness`` or
``engine`` of their own.
"""
