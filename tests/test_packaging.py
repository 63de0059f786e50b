"""What a package index gets: a description that shows there, and classifiers of the versions that are meant."""

import re
import runpy
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
DESCRIPTION = runpy.run_path(str(ROOT / "setup.py"))["description"]


def test_the_description_is_the_readme_without_pictures_and_links_that_only_the_repository_has() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    told = DESCRIPTION(readme)
    assert "![" in readme
    assert "![" not in told
    assert all(target.startswith("https://") for target in re.findall(r"\]\(([^)]*)\)", told))
    for line in readme.splitlines():
        assert "](" in line or line in told.splitlines()
    assert "NeurIPS 2021)" in told


def test_web_addresses_and_their_pictures_stay() -> None:
    text = "![a](https://host/a.png)\n\n![b](b.png)\n\n[c](https://host/c) and [d](docs/d.md#e)\n"
    assert DESCRIPTION(text) == "![a](https://host/a.png)\n\n[c](https://host/c) and d\n"


def test_the_project_names_its_versions_and_no_address_that_does_not_exist() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"
    assert [c for c in project["classifiers"] if "Python :: 3" in c] == [
        f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)
    ]
    assert "urls" not in project
    assert project["dynamic"] == ["readme"]
