"""The continuous scheduler: all running sequences have the same tkv. Source: docs/scheduling-rules.md."""
