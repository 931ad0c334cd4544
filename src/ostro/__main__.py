"""`python -m ostro`: the same as the command `ostro`."""

from ostro.cli import main

if __name__ == "__main__":
    main()
