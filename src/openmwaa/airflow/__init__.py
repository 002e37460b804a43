"""Everything that knows Airflow: versions, configuration, components, secrets, health."""
