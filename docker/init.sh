#!/bin/sh
# What the containers share before any of them starts: folders, logins, Airflow's tables.
set -eu
umask 077
cd "$ATLAS_HOME"
mkdir -p data artifacts var/airflow var/mlflow/artifacts
install -m 600 /run/secrets/airflow_passwords var/airflow/passwords.json
install -m 600 /run/secrets/mlflow_login var/mlflow/login
printf '{"uri": "http://mlflow:5000"}\n' > var/mlflow/server.json
for name in airflow mlflow; do # for the dashboard, which asks the databases themselves
    printf "host=postgres port=5432 user=atlas dbname=%s passfile='/run/secrets/pgpass'" \
        "$name" > "var/$name/$name.dsn"
done
python -m airflow db migrate
# how many trainings at once; change it in Airflow's UI, under Admin, Pools
python -m airflow pools set atlas_training "${ATLAS_WORKERS:-2}" "trainings at once"
