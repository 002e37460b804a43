"""The embedded services as data: how to prepare, start, and ask PostgreSQL, SeaweedFS and Caddy.

Who starts them and keeps them alive is `processes.up`. Where a user's own server is set, the
embedded one does not exist; `endpoints.load_endpoints` hides the difference.
"""
