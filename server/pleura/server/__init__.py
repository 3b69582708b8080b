"""The coordinator: gateway, rounds, admission, aggregation and the statement log."""
