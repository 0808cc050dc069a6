"""`python -m caecodec` is the command line."""

from caecodec.cli.app import main

if __name__ == "__main__":
    main()
