"""The command `ua-vp`."""

import sys


def main() -> None:
    """Run the command line with this process's arguments, environment and streams; ends the process."""
    from ua_vp.cli import app

    sys.exit(app.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
