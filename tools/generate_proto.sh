#!/bin/sh
# Regenerates common/pleura/common/proto/trainer_pb2*.py from trainer.proto.
# Run from the repository root: sh tools/generate_proto.sh [PYTHON]
set -eu
PYTHON="${1:-.venv/bin/python}"
exec "$PYTHON" -m grpc_tools.protoc -I common \
  --python_out=common --pyi_out=common --grpc_python_out=common \
  common/pleura/common/proto/trainer.proto
