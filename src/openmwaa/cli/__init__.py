"""The command line: one more client of the AWS API, and of the operator's socket."""
