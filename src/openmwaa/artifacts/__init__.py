"""Things built once and shared: Airflow runtimes; copies of what users keep in S3."""
