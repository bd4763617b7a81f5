"""``python -m graftlm`` is ``graft``, for launchers such as torchrun."""

from graftlm.cli.app import main

if __name__ == "__main__":
    main()
