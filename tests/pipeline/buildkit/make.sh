#!/usr/bin/env bash
# An image of BuildKit from Go's module proxy, where no registry can be reached: make.sh TAG [OPTION OF docker build...]
# Needs go, jq, a Docker Engine and its runc. Three minutes of a CPU the first time.
set -euo pipefail
BUILDKIT=github.com/moby/buildkit@v0.26.3
tag=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp --directory)
trap 'rm -rf "$context"' EXIT

PATH=$PATH:/usr/local/go/bin:/usr/sbin
# What a module of another's excludes, `go install` does not look at, and so refuses.
source=$(go mod download -json "$BUILDKIT" | jq --exit-status --raw-output .Dir)
CGO_ENABLED=0 go -C "$source" build -mod=mod -trimpath -ldflags '-s -w' -o "$context/" ./cmd/buildkitd ./cmd/buildctl
cp "$(command -v runc)" "$context/runc"
install --mode 755 "$here/start.sh" "$context/start.sh"
docker build --quiet --tag "$tag" --file "$here/Dockerfile" "$@" "$context"
