"""OpenMWAA: self-hosted Amazon MWAA. Managed Apache Airflow behind MWAA's own API."""
