"""The file that says what a storage node serves: TOML text <-> frozen values, without I/O."""
