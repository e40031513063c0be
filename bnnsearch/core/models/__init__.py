"""The networks: one module per family, built of shared blocks by `build.build_model`."""
