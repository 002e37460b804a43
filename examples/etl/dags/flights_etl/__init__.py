"""The steps of the pipeline as plain functions; `nyc_flights.py` makes tasks of them.

Nothing here imports Airflow except `storage`, so that the steps can be run and tested anywhere.
"""
