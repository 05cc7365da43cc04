"""The menu of commands besides the root scripts.   python -m ferlab --help"""

from ferlab import cli
from ferlab.commands import (
    calibrate,
    check,
    compare,
    inspect,
    pack,
    report,
    reproduce,
    sample,
    vote_fit,
    vote_train,
)
from ferlab.errors import entry_point

COMMANDS = (
    check,
    sample,
    inspect,
    vote_train,
    vote_fit,
    calibrate,
    report,
    compare,
    pack,
    reproduce,
)


@entry_point
def main() -> None:
    parser = cli.parser("Commands besides the root scripts.")
    parser.prog = "python -m ferlab"
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    args = cli.arguments(parser)
    args.run(args)


if __name__ == "__main__":
    main()
