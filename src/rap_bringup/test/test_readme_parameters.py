"""The parameter tables of the READMEs are those of the declarations."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[3] / "tools" / "readme_parameters.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("readme_parameters", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_table_is_out_of_date(tool, capsys):
    assert tool.main(["--check"]) == 0, capsys.readouterr().out


def test_a_table_that_is_out_of_date_is_noticed_and_filled_in(tool, tmp_path, monkeypatch, capsys):
    readme = tmp_path / "src" / "rap_planner" / "README.md"
    readme.parent.mkdir(parents=True)
    readme.write_text(f"# x\n\n{tool.MARK}\noutdated words\n\n## Limits\n\nkept\n")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    assert tool.main(["--check"]) == 1
    assert "src/rap_planner/README.md" in capsys.readouterr().out
    assert "outdated words" in readme.read_text()
    assert tool.main([]) == 0
    text = readme.read_text()
    assert "outdated words" not in text
    assert text.endswith("\n\n## Limits\n\nkept\n")
    assert "| `mode` | string | `shadow` | `active`, `shadow` |" in text
    assert tool.main(["--check"]) == 0
