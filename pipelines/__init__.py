"""Stages: read files, call atlas, write files. Airflow, DVC and the command line call these."""
