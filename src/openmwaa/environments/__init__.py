"""The domain: what an environment is, which states it has, what a change means. No I/O."""
