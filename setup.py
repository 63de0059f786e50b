"""The description for a package index: the README without what only the repository has, its pictures and links."""

import re
from pathlib import Path

from setuptools import setup


def description(readme: str) -> str:
    """Return a README without pictures and links to files beside it; text, tables and web addresses stay."""
    local = r"\((?!https?://)[^)\s]*\)"
    without_pictures = re.sub(rf"^!\[[^\]]*\]{local}\n+", "", readme, flags=re.MULTILINE)
    return re.sub(rf"\[([^\]]+)\]{local}", r"\1", without_pictures)


if __name__ == "__main__":
    readme = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=description(readme), long_description_content_type="text/markdown")
