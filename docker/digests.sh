#!/usr/bin/env bash
# Pin the images of docker/compose.yaml by digest: ask the registry which bytes each tag means now,
# and write NAME=image:tag@sha256:… to docker/.env, where compose reads it. Needs docker and a way
# to the registry; compare the digests with those that you trust. Run it again to move on.
set -euo pipefail
cd "$(dirname "$0")"

pinned=()
while read -r name image; do
    digest=$(docker buildx imagetools inspect "$image" --format '{{.Manifest.Digest}}')
    [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]] \
        || { echo "error: expected the digest of $image, got '$digest'" >&2; exit 2; }
    pinned+=("$name=$image@$digest")
done < <(grep -oE '[A-Z]+_IMAGE:-[^}]+' compose.yaml | sed 's/:-/ /' | sort -u)
others=$(grep -vE '^[A-Z]+_IMAGE=' .env 2> /dev/null || true)
printf '%s\n' ${others:+"$others"} "${pinned[@]}" > .env
printf '%s\n' "${pinned[@]}"
