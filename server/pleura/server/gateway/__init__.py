"""The only public port: signed fleet traffic, blobs, enrolment and the statement log."""
