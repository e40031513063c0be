"""Results on disk outlive a crash in the middle of a line."""

from pathlib import Path

import pytest

from bnnsearch.results import TrialResult, TrialState, append_result, read_results


def result(number: int, **fields: float) -> TrialResult:
    return TrialResult(number, TrialState.COMPLETE, {"seed": number}, {}, {"val_acc": 0.5, **fields})


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    written = [result(2), result(0), TrialResult(1, TrialState.FAILED, {}, {}, {}, reason="loss is nan")]
    for each in written:
        append_result(path, each)
    assert read_results(path) == sorted(written, key=lambda each: each.number)


@pytest.mark.parametrize("cut", [1, 40, 10_000])
def test_a_line_cut_short_is_left_out_and_does_not_spoil_the_next(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "results.jsonl"
    long = {f"metric{number}": 1.0 for number in range(2000)}  # longer than what is looked back over at a time
    append_result(path, result(0))
    append_result(path, result(1, **long))
    path.write_bytes(path.read_bytes()[:-cut])
    assert [each.number for each in read_results(path)] == [0]
    append_result(path, result(2))
    assert [each.number for each in read_results(path)] == [0, 2]


def test_the_last_line_of_a_number_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    append_result(path, result(0, val_loss=1.0))
    append_result(path, result(0, val_loss=2.0))
    assert [each.metrics["val_loss"] for each in read_results(path)] == [2.0]


def test_a_foreign_line_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("hello\n")
    append_result(path, result(0))
    with pytest.raises(ValueError, match=r"results\.jsonl:1: not a trial result"):
        read_results(path)
