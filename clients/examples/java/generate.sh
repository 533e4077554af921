#!/usr/bin/env sh
# Writes the Java code of the public API into ./gen. Needs protoc and its plugin for gRPC (GRPC_JAVA_PLUGIN names it).
set -eu
cd "$(dirname "$0")"
mkdir -p gen
plugin=${GRPC_JAVA_PLUGIN:-$(command -v grpc_java_plugin || command -v protoc-gen-grpc-java)}
protoc --proto_path=../../../proto --java_out=gen --plugin=protoc-gen-grpc-java="$plugin" --grpc-java_out=gen \
    liminal/v1/broker.proto liminal/v1/consumers.proto
