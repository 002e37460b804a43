"""Who calls, proved by a signature, and what the caller may do, decided by IAM policies."""
