"""Small tools that know nothing of environments: errors, secrets, back-off, logging."""
