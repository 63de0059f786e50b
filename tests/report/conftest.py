"""Pages without drawings, for tests of everything else on them."""

import pytest
from markupsafe import Markup


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an empty drawing in every figure's place: to draw one takes longer than the rest of its page."""
    monkeypatch.setattr("nuat.report.page.figure_selection._draw", lambda record, prefix, title: Markup("<svg></svg>"))
