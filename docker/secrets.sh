#!/usr/bin/env bash
# Make the secrets of docker/compose.yaml, once: 64 random bytes each, mode 0600, owned by you, who
# the containers run as. Fernet's key is 32 bytes, as its form demands. What is there stays.
set -euo pipefail
umask 077
cd "$(dirname "$0")"
mkdir -p secrets
[[ $(id -u) != 0 ]] || { echo "error: run this as the user the containers shall run as" >&2; exit 2; }

random() { head -c "$1" /dev/urandom | base64 -w 0 | tr '+/' '-_'; }
keep() { [[ -s secrets/$1 ]] || printf '%s' "$2" > "secrets/$1"; }

for name in postgres_password redis_password mlflow_password mlflow_key dashboard_token \
    api_secret_key jwt_secret; do
    keep "$name" "$(random 64 | tr -d =)"
done
keep fernet_key "$(random 32)"
keep airflow_passwords "{\"admin\": \"$(random 64 | tr -d =)\"}"
keep pgpass "$(printf '*:*:*:atlas:%s\n' "$(< secrets/postgres_password)")"
keep redis_conf "requirepass $(< secrets/redis_password)
save \"\"
dir /data"
keep broker_url "redis://:$(< secrets/redis_password)@redis:6379/0"
keep mlflow_login "admin
$(< secrets/mlflow_password)"
chmod 600 secrets/*
others=$(grep -v '^ATLAS_[UG]ID=' .env 2> /dev/null || true)
printf '%s\n' "ATLAS_UID=$(id -u)" "ATLAS_GID=$(id -g)" ${others:+"$others"} > .env
echo "Airflow's login:   admin, the password in docker/secrets/airflow_passwords"
echo "MLflow's login:    admin, the password in docker/secrets/mlflow_password"
echo "dashboard's token: docker/secrets/dashboard_token"
