#!/usr/bin/env sh
# Writes the Go code of the public API into ./liminalv1. Needs protoc with the plugins protoc-gen-go and protoc-gen-go-grpc.
set -eu
cd "$(dirname "$0")"
module=liminal.example/first
set --
for plugin in go go-grpc; do
    set -- "$@" "--${plugin}_out=." "--${plugin}_opt=module=$module"
    for file in broker consumers; do
        set -- "$@" "--${plugin}_opt=Mliminal/v1/$file.proto=$module/liminalv1"
    done
done
protoc --proto_path=../../../proto "$@" liminal/v1/broker.proto liminal/v1/consumers.proto
