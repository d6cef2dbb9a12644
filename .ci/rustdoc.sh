#!/usr/bin/env bash
# What Cargo calls for the tests in the documentation: writes the documentation too, warnings denied, of the packages that the tests
# are built of. `cargo doc` would compile the metadata of all of them once more.
set -euo pipefail

tests=no arguments=() value=no
for argument; do
    case $value$argument in
        yes*) value=no ;;
        no--test) tests=yes ;;
        no--test-*=*) ;;
        no--test-*) value=yes ;;
        *) arguments+=("$argument") ;;
    esac
done
if [ $tests = yes ]; then
    rustdoc "${arguments[@]}" -D warnings --out-dir "${CARGO_TARGET_DIR:-target}/doc"
fi
exec rustdoc "$@"
