"""A model of the ledger, and what walks both side by side."""
