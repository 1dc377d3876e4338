"""The audit log: what is recorded of a transaction, without secrets, and its three formats."""
