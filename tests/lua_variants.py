"""The Lua with one thing broken: the property test must catch each of these."""

from __future__ import annotations

import pytest

from celeryflow.store import scripts

Change = tuple[str, str]
"""A text of the Lua, and what stands in its place."""

VERBS = ("submit", "claim", "commit", "release", "renew", "reap", "cancel", "resume")

TINY_BUDGET = ("local BUDGET = 50 ", "local BUDGET = 1 ")

VARIANTS: dict[str, list[Change]] = {
    "a commit with an old token counts": [("if held.token == token then", "if held.token then")],
    "a repeated commit is not recognised": [("if held.previous == token and token ~= '' then", "if false then")],
    "a drainer that holds a claim gets another": [("if held.token then return { 0, reply(held) } end", "")],
    "a repeated submit starts the run anew": [("if redis.call('EXISTS', rk(run, 'meta')) == 1 then return 0 end", "")],
    "an input counts twice": [("missing(run, user, -1)", "missing(run, user, -2)")],
    "an input does not count": [("missing(run, user, -1)", "missing(run, user)")],
    "the rest of a claim is not handed back": [("hand_back(held.run, rest_of(held.units, results), 'released')", "")],
    "a step handed back before its input is ready": [
        ("if missing(run, node) > 0 then return set_state(run, node, '.') end", "")
    ],
    "a skipped step skips nothing": [("byte == 's' and 's' or 'b'", "byte == 'f' and 'b' or 's'")],
    "a fan-out over the budget loses its rest": [
        TINY_BUDGET,
        ("if rest then redis.call('RPUSH'", "if false then redis.call('RPUSH'"),
    ],
    "a retry is forgotten": [
        ("redis.call('ZADD', P .. 'delayed', NOW + r.delay_s, entry_of(run, r.node, 'retry', r.start))", "")
    ],
    "a lost worker is not counted": [("node .. ':' .. start .. ':l', 1)", "node .. ':' .. start .. ':l', 0)")],
    "a zipped item is ready after its first source": [("ready[i] = seen == sources", "ready[i] = seen == 1")],
    "two drainers get the same items": [("(start + size) .. ':' .. (count - size)", "start .. ':' .. count")],
    "a map settles one item early": [("if ended == length_of(run, r.node)", "if ended >= length_of(run, r.node) - 1")],
    "an absorbed failure fails its map": [
        ("local COUNTER = { failure = 'bad',", "local COUNTER = { failure = 'bad', absorbed = 'bad',")
    ],
    "the lowest priority is first": [("(9 - priority) * 2 ^ 40", "priority * 2 ^ 40")],
    "a capped step takes no place": [("redis.call('SADD', P .. 'running:' .. step, drainer)", "")],
    "a capped step runs once too often": [("free_places(queue) > 0 and", "free_places(queue) > -1 and")],
    "a place is never left": [("redis.call('SREM', P .. 'running:' .. step, drainer)", "")],
    "a place is left while the process goes on": [("if following == '' then leave_place", "if true then leave_place")],
    "a decision skips no arm": [("local is_chosen = ", "local is_chosen = true or ")],
    "a gather does not hear of failures": [("if what ~= 'n' and missing", "if what == 's' and missing")],
    "a failure that a gather takes in fails the run": [("byte == 'f' and plan_of(run, node)[FATAL]", "byte == 'f'")],
    "fail_fast lets the rest go on": [("doomed[run] = true", "")],
    "a cancel overwrites the end of a run": [
        ("if RUN_OVER[meta(run, 'status')] then return end", ""),
        ("if not RUN_OVER[status] then end_run(run, 'cancelled', ARGV[2]) end", "end_run(run, 'cancelled', '')"),
    ],
}


def change(monkeypatch: pytest.MonkeyPatch, changes: list[Change]) -> None:
    """Replace texts in the verbs' scripts; each must be in one of them."""
    texts = {verb: scripts.source(verb) for verb in VERBS}
    for old, new in changes:
        assert any(old in text for text in texts.values()), f"no verb has {old!r}"
        texts = {verb: text.replace(old, new) for verb, text in texts.items()}
    monkeypatch.setattr(scripts, "source", texts.__getitem__)
