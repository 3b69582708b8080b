"""The hospital daemon: agent, trainer and ingest processes."""
