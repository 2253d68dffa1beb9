#!/usr/bin/env bash
# Make .venv from requirements.lock, once per lock, and the homes of Airflow and MLflow.
#
# uv is faster and compiles while it installs; where it cannot, pip does the same. PIP_FIND_LINKS
# may name a folder of wheels, such as the CPU build of torch: pip reads it by itself, uv is told.
# The stamp is written last, so that an interrupted set-up is taken up again.
set -euo pipefail
cd "$(dirname "$0")/.."

python=.venv/bin/python
wanted="$(sha256sum requirements.lock | cut -d' ' -f1)"
if [[ -x $python && "$(cat .venv/lock.sha256 2>/dev/null)" == "$wanted" ]]; then
    exit 0
fi

for tool in python3.11 git; do
    command -v "$tool" >/dev/null || { echo "error: $tool is needed: install it" >&2; exit 2; }
done
echo "setting up .venv from requirements.lock (once; some minutes) …"
[[ -x $python ]] || python3.11 -m venv .venv
links=()
for place in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$place"); done
[[ -z ${PIP_INDEX_URL:-} ]] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$PIP_INDEX_URL}"
[[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$PIP_CERT}"
if ! { $python -m pip install --quiet uv && .venv/bin/uv pip install --quiet \
    --python "$python" --compile-bytecode "${links[@]+"${links[@]}"}" -r requirements.lock; }; then
    echo "uv could not; installing with pip …"
    $python -m pip install --quiet -r requirements.lock
fi
PYTHONPATH="$PWD" $python -m services setup
echo "$wanted" > .venv/lock.sha256
