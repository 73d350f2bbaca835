from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from rap_evaluation.metrics.case_file import (
    CaseError,
    CaseFileError,
    CaseInput,
    Number,
    parse_input,
    read_cases,
    score_cases,
    write_results,
)


class Value(CaseInput):
    value: Number


def parse(content):
    return parse_input(content, Value)


def case_file(*cases, schema="rap.cases/1", metric="toy"):
    return json.dumps({"schema": schema, "metric": metric, "cases": cases})


def test_plain_and_gzipped_files_are_the_same(tmp_path):
    text = case_file({"name": "b", "input": {"value": 1}}, {"name": "a", "input": {"value": 2}})
    (tmp_path / "toy.json").write_text(text)
    (tmp_path / "toy.json.gz").write_bytes(gzip.compress(text.encode()))
    plain = read_cases(tmp_path / "toy.json", "toy")
    assert list(plain) == ["b", "a"]
    assert read_cases(tmp_path / "toy.json.gz", "toy") == plain


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("\udcff", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "expected a mapping, got list"),
        ("{}", "schema: Field required"),
        (case_file(schema="rap.cases/2"), "schema: Input should be 'rap.cases/1'"),
        (case_file(metric="other"), "metric: expected 'toy', got 'other'"),
        ('{"schema": "rap.cases/1", "metric": "toy", "cases": {}}', "cases: Input should be"),
        (case_file({"input": {}}), "cases.0.name: Field required"),
        (case_file({"name": 3, "input": {}}), "cases.0.name: Input should be a valid string"),
        (case_file({"name": "", "input": {}}), "cases.0.name: String should have at least 1"),
        (case_file({"name": "a"}, {"name": "b"}, {"name": "a"}), "cases.2.name: 'a' is there"),
    ],
)
def test_bad_file_is_refused_with_file_and_field(tmp_path, text, message):
    path = tmp_path / "toy.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(CaseFileError) as error:
        read_cases(path, "toy")
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("data", [b"", b"{}", gzip.compress(b"{}" * 1000, mtime=0)[:-9]])
def test_damaged_gzip_is_refused(tmp_path, data):
    path = tmp_path / "toy.json.gz"
    path.write_bytes(data)
    with pytest.raises(CaseFileError, match=str(path)):
        read_cases(path, "toy")


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(CaseFileError, match=r"none\.json: cannot be read"):
        read_cases(tmp_path / "none.json", "toy")


def test_errors_of_cases_stay_with_their_cases(tmp_path):
    def score(case):
        if case.value == 0:
            raise CaseError("value: expected\nanything else")
        return {"inverse": np.float64(1 / case.value), "undefined": np.array([np.nan, 1.0])}

    def divide_by_zero(case):
        return {"inverse": 1 / case.value}

    path = tmp_path / "toy.json"
    path.write_text(
        case_file(
            {"name": "zero", "input": {"value": 0}},
            {"name": "two", "input": {"value": 2}},
            {"name": "nan", "input": {"value": float("nan")}},
            {"name": "huge", "input": {"value": 10**500}},
            {"name": "empty"},
        )
    )
    cases = read_cases(path, "toy")
    results = score_cases(cases, parse, score)
    assert list(results.cases) == ["zero", "two", "nan", "huge", "empty"]
    assert results.cases["two"] == {"inverse": 0.5, "undefined": [None, 1.0]}
    assert results.errors == {
        "zero": "value: expected anything else",
        "nan": "input: value: Input should be a finite number",
        "huge": "input: value: Input should be a valid number",
        "empty": "input: expected a mapping, got NoneType",
    }
    assert "zero" in score_cases(cases, parse, divide_by_zero).errors

    write_results(tmp_path / "out.json", results)
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == {"cases": results.cases, "seconds": results.seconds}
