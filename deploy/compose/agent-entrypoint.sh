#!/bin/sh
# Enrols on the first start; a data directory that is enrolled already is left as it is.
set -eu
if [ "${1:-run}" = run ]; then
  automator67-agent enrol --controller "$ENROL_CONTROLLER" --token "$ENROL_TOKEN" --name "$NODE_NAME"
fi
exec automator67-agent "$@"
