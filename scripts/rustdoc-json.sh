#!/bin/sh
# Stands in for rustdoc where its JSON is wanted, which stable toolchains give only when told so.
# As `RUSTDOC`, so that nothing but rustdoc itself is told: dependencies are not built again.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@"
