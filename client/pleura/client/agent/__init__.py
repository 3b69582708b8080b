"""Network side of the site: signed requests, blob transfer, outbox; no pixels, no signing key."""
