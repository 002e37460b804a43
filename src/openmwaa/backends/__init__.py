"""Ways of running environments. Backends know processes, never Airflow."""
