"""The page of the settings is what the code says."""

from __future__ import annotations

from pathlib import Path

from boostline.local.reference import render


def test_the_settings_page_is_what_the_code_says() -> None:
    page = Path("docs/settings.md").read_text(encoding="utf-8")
    assert page == render(), "run: python -m boostline.local.reference > docs/settings.md"


def test_every_setting_has_a_meaning() -> None:
    assert "None" not in render()
