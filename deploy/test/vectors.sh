# shellcheck shell=bash
# The format of sealed values, checked by another implementation than ours.

# Debian's own interpreter, whose packages those of the distribution are.
stage_vectors() { /usr/bin/python3 "$here/test/seal_vectors.py" check crates/daemon/src/seal/vectors.json; }
