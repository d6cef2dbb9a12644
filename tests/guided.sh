#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER of `make fuzz`: a counter at every edge of our own packages, so that the fuzz test sees which inputs
# reach something new. Other packages are those of any other build. LLVM's coverage pass is in stable rustc
# (https://clang.llvm.org/docs/SanitizerCoverage.html); the suite has the function that it calls.
case " $* " in
*" --crate-name build_script_"*) exec "$@" ;;
*" --crate-name outskirt"*" --crate-type lib "*)
    exec "$@" --cfg guided -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters ;;
# a program has no use for the counters: what is called there does nothing
*" --crate-name outskirt"*" --crate-type bin "*)
    exec "$@" --cfg guided -C link-arg=-Wl,--defsym=__sanitizer_cov_8bit_counters_init=_init ;;
*" --crate-name suite "*) exec "$@" --cfg guided ;;
esac
exec "$@"
