"""What `gamengen <command>` runs: one module a command, each with a `Config`, its `PRESETS` and `main(config)`.

The scripts of the same names in a checkout run the same functions. Nothing is imported here, so that `gamengen --help`
answers at once.
"""
