"""The pages that readers see, and the fenced blocks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
READMES = (ROOT / "README.md", ROOT / "README.zh.md")
PAGES = (*READMES, *sorted((ROOT / "docs").rglob("*.md")))
LINKED = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")

_FENCE = re.compile(r"^```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_EXEMPTION = re.compile(r"<!-- not run:(?P<reason>[^\n]*)-->\n\Z")
_ENDING = re.compile(r"<!-- ends with (?P<code>\d+) -->\n\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Args:
        place: file:line.
        language: the word behind the fence.
        code: what stands inside.
        exemption: the reason in the comment ``<!-- not run: reason -->`` right above, None where there is none.
        exit_code: what its last command ends with, 0 without a comment ``<!-- ends with CODE -->`` right above.
    """

    place: str
    language: str
    code: str
    exemption: str | None = None
    exit_code: int = 0

    @property
    def runs(self) -> bool:
        """Whether readers are expected to run it and nothing is said against it."""
        return self.language in ("bash", "python") and self.exemption is None


def blocks(page: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()]
        exemption, ending = _EXEMPTION.search(before), _ENDING.search(before)
        line = text.count("\n", 0, match.start()) + 1
        found.append(
            Block(
                f"{page.relative_to(ROOT)}:{line}",
                match["language"],
                match["code"],
                exemption["reason"].strip() if exemption else None,
                int(ending["code"]) if ending else 0,
            )
        )
    return found


def prose(page: Path) -> str:
    """Return the text of a page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
