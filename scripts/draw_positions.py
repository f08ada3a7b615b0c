"""Draw every position encoding and fill the tables of its page: `scripts/draw_positions.py [--folder docs]`."""

from pathlib import Path

import _cli

PAGE = _cli.ROOT / "docs" / "positions.md"
USAGE = """\
usage: draw_positions.py [--folder FOLDER]

Writes FOLDER/positions.md and FOLDER/positions/NAME.png, NAME_small.png for every word of position_encoding, drawn and
measured from the modules themselves. The text around the tables is that of docs/positions.md and stays as it is. Needs
matplotlib, the extra viz.

Here:
  --folder text  (default: docs, of this project)
      Where the page and the folder of its pictures are written."""


def main(arguments: list[str]) -> None:
    """Read the command line, draw, write, print."""
    typed = _cli.parse(arguments)
    if typed.help:
        print(USAGE)
        return
    folder = typed.named.pop("folder", str(PAGE.parent))
    if typed.positional or typed.named or not isinstance(folder, str):
        raise _cli.UsageError(f"--folder FOLDER is all that can be given, got {' '.join(arguments)}. See --help.")
    from selfattn_hf.insight import draw_all_positions, fill_position_page

    pictures = Path(folder) / "positions"
    draw_all_positions(pictures)
    page = Path(folder) / "positions.md"
    page.write_text(fill_position_page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"wrote {page} and {len(list(pictures.glob('*.png')))} pictures in {pictures}")


if __name__ == "__main__":
    _cli.run(main)
