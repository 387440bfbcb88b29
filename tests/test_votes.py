"""Votes, and who leads by them."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from colorhub import DataError
from colorhub.cli import main
from colorhub.votes import CHOICES, REAL, Vote, append, leaderboard, markdown, read

VOTE = Vote("ab" * 32, ("natural", "cwgan"), ("1234567890", "abcdefabcd"), "first", "0.1.0")


def simulated(strengths: dict[str, float], count: int, seed: int = 0) -> list[Vote]:
    """Voters who prefer by odds that are the quotient of the strengths, and tie now and then."""
    source, names, votes = np.random.default_rng(seed), list(strengths), []
    for _ in range(count):
        first, second = source.choice(names, 2, replace=False)
        chance = strengths[first] / (strengths[first] + strengths[second])
        choice = "first" if source.random() < chance else "second"
        roll = source.random()
        choice = "tie" if roll < 0.05 else "both bad" if roll < 0.1 else choice
        votes.append(replace(VOTE, variants=(first, second), revisions=("", ""), choice=choice))
    return votes


def test_voters_of_known_strengths_give_their_ranking():
    strengths = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 1.0}
    places = leaderboard(simulated(strengths, 3000))
    assert [place.name for place in places] == ["a", "b", "c", "d"]
    expected = 400 * np.log10(list(strengths.values()))
    expected += 1000 - expected.mean()
    for place, points in zip(places, expected, strict=True):
        assert place.low < points < place.high or abs(place.points - points) < 25
        assert place.low < place.points < place.high
        assert not place.preliminary


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    strengths, held = {"a": 2.0, "b": 1.0, "c": 0.5}, 0
    expected = dict(zip(strengths, 1000 + 400 * np.log10(list(strengths.values())), strict=True))
    for seed in range(40):
        votes = [v for v in simulated(strengths, 300, seed) if v.choice in ("first", "second")]
        for place in leaderboard(votes, resamples=200, seed=seed):
            held += place.low <= expected[place.name] <= place.high
    assert 0.88 <= held / 120 <= 1


def test_one_lucky_vote_does_not_lead():
    votes = simulated({"a": 4.0, "b": 1.0}, 400)
    votes.append(replace(VOTE, variants=("lucky", "b"), revisions=("", ""), choice="first"))
    places = leaderboard(votes)
    assert places[0].name == "a"
    (lucky,) = (place for place in places if place.name == "lucky")
    assert lucky.preliminary and lucky.votes == 1
    assert "preliminary" in markdown(places)


def test_ties_leave_two_alike_and_both_bad_changes_nothing():
    ties = [replace(VOTE, choice="tie")] * 30
    first, second = leaderboard(ties)
    assert first.points == pytest.approx(1000) and second.points == pytest.approx(1000)
    votes = simulated({"a": 3.0, "b": 1.0}, 100)
    more = [*votes, *[replace(v, choice="both bad") for v in votes[:20]]]
    before, after = ({p.name: p.points for p in leaderboard(each)} for each in (votes, more))
    assert before == pytest.approx(after)
    assert leaderboard([replace(VOTE, choice="both bad")])[0].points == pytest.approx(1000)


def test_another_revision_is_another_competitor_and_the_real_photo_is_one():
    real = replace(VOTE, variants=(REAL, "natural"), revisions=("", "1234567890"))
    names = {place.name for place in leaderboard([VOTE, replace(VOTE, revisions=("9", "a")), real])}
    assert names == {"natural@1234567", "cwgan@abcdefa", "natural@9", "cwgan@a", REAL}


def test_votes_come_back_from_the_file_and_hold_no_photo(tmp_path):
    for choice in CHOICES:
        append(tmp_path / "new" / "votes.jsonl", replace(VOTE, choice=choice))
    votes, complaints = read([tmp_path / "new"])
    assert votes == [replace(VOTE, choice=choice) for choice in CHOICES] and not complaints
    lines = (tmp_path / "new" / "votes.jsonl").read_text().splitlines()
    assert set(json.loads(lines[0])) == {"photo", "variants", "revisions", "choice", "version"}


def test_a_vote_cut_off_by_a_kill_does_not_take_the_next_with_it(tmp_path):
    path = tmp_path / "votes.jsonl"
    append(path, VOTE)
    whole = path.read_bytes()
    for length in range(1, len(whole)):
        path.write_bytes(whole + whole[:length])
        append(path, VOTE)
        votes, complaints = read([path])
        # All but the end of its line may be there: then it is a vote.
        assert len(votes) + len(complaints) == 3 and len(votes) == 2 + (length == len(whole) - 1)
    assert path.read_bytes().startswith(whole)


def test_many_at_once_lose_no_vote(tmp_path):
    path = tmp_path / "votes.jsonl"
    path.write_text('{"photo": "cut o')
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append(path, replace(VOTE, photo=str(number))), range(400)))
    votes, complaints = read([path])
    assert {vote.photo for vote in votes} == set(map(str, range(400)))
    assert len(votes) == 400 and len(complaints) == 1


def test_a_full_disk_is_said_and_harms_no_other_vote(tmp_path, monkeypatch):
    path, write = tmp_path / "votes.jsonl", os.write
    append(path, VOTE)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda file, line: write(file, line[:20]))
        with pytest.raises(OSError, match=r"votes\.jsonl"):
            append(path, VOTE)
    append(path, VOTE)
    votes, complaints = read([path])
    assert votes == [VOTE, VOTE] and len(complaints) == 1


def test_names_of_any_letters_stay_on_their_line(tmp_path):
    odd = replace(VOTE, variants=("é\u2028\x85", "b\nc"))
    append(tmp_path / "votes.jsonl", odd)
    assert read([tmp_path / "votes.jsonl"]) == ([odd], [])


def test_one_vote_makes_nothing_certain():
    first, second = leaderboard([VOTE])
    assert first.name == "natural@1234567" and first.low <= second.points < first.points
    more, less = leaderboard([VOTE] * 200)
    assert more.high - more.low < first.high - first.low and more.low > less.high
    assert leaderboard([]) == []


def test_lines_that_are_no_votes_are_named(tmp_path):
    path = tmp_path / "votes.jsonl"
    append(path, VOTE)
    with path.open("a") as file:
        file.write('not json\n{"photo": 1}\n[]\n\n')
        file.write(json.dumps({"variants": ["a"]}) + "\n")
    votes, complaints = read([path])
    assert len(votes) == 1 and len(complaints) == 4 and "line 2" in complaints[0]
    with pytest.raises(DataError, match="no such file"):
        read([tmp_path / "absent.jsonl"])
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="no votes"):
        read([tmp_path / "empty.jsonl"])


def test_the_command_ranks_votes_of_files(tmp_path, capsys):
    for vote in simulated({"a": 3.0, "b": 1.0}, 200):
        append(tmp_path / "votes.jsonl", vote)
    assert main(["leaderboard", str(tmp_path / "votes.jsonl")]) == 0
    table = capsys.readouterr().out
    assert table.index("| a |") < table.index("| b |")
    assert main(["leaderboard", str(tmp_path), "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert first["name"] == "a" and first["low"] > second["high"] and not first["preliminary"]
    assert main(["leaderboard", str(tmp_path / "absent")]) == 1
    assert "no such file" in capsys.readouterr().err
