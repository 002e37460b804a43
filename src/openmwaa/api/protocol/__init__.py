"""AWS's wire protocols: requests are parsed and answers written from a service's model."""
