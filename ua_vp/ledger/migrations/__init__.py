"""The ledger's revisions, oldest first; each only expands, so that the release before it still reads and writes."""

REVISIONS = ("0001",)
"""Every revision this code knows; the last one is what it brings a ledger up to."""
