"""One module a command of `rwkv-trainer`: `add_parser(subparsers)` declares it, `run(args)` does it."""
