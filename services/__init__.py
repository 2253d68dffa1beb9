"""Starts, watches and stops Airflow and MLflow for a home; knows them only as programs."""
