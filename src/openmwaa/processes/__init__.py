"""Entry points of the service's own processes, and starting and stopping all of them."""
