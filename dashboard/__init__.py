"""The dashboard: what the last night found, which experts are active, and why.

It reads a home and writes nothing there: Parquet by columns and filters, MLflow's and Airflow's
databases read-only, JSON as the stages left it. The same app stands alone (`python -m dashboard`)
and mounts in Airflow's UI (`dags/plugins/atlas_dashboard.py`).
"""
