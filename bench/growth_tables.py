"""Cost against how much there is beside an exchange: secret rules, rules of the policy, principals, open streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from bench import texts
from bench.growth_bodies import EVENTS, called, events_of, mixed, prompt_of, small_answer, small_prompt, streamed
from bench.growth_fit import Curve, cpu, measured, point
from bench.growth_gateway import Chat, Gateway, at_once, gateway
from bench.plot import Point
from extproc import policy_file
from extproc.events import ResponseBody
from extproc.exchange import Exchange, Phase
from extproc.keys.verifier import VerifierLimits
from extproc.masking import detector
from extproc.masking.detector import RuleSet
from extproc.masking.finding import Action
from extproc.masking.masker import Masking
from extproc.masking.policy import MaskingPolicy, RuleSetPolicy
from extproc.policy import Policy
from tests.detecting import FINGERPRINTS
from tests.playbook import POLICY

_MICRO: Final = 1e6
_TEXT_CHARS: Final = 16_384
_SEED: Final = 9

_SECRET_RULES: Final = (10, 30, 100, 300, 1000)
_QUICK_SECRET_RULES: Final = (10, 100, 300)
_POLICY_RULES: Final = (1, 10, 100, 300, 1000)
_QUICK_POLICY_RULES: Final = (10, 100, 1000)
_PRINCIPALS: Final = (1, 10, 100, 1_000, 10_000, 100_000)
_QUICK_PRINCIPALS: Final = (1, 10, 100, 1_000, 5_000)
_FIRST_FROM: Final = 1_000
"""From so many principals on their first exchanges are measured: those add some."""
_STREAMS: Final = (1, 10, 100, 500, 1000, 2000)
_QUICK_STREAMS: Final = (1, 10, 100, 500)

_SAMPLE: Final = 192
_STREAM_EVENTS: Final = 2000
"""Events of a measurement, over all streams."""


def _rounds(*, quick: bool) -> int:
    return 3 if quick else 5


# --- Rules -----------------------------------------------------------------------------------------------------------


async def secret_rules(folder: Path, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU ms of an exchange against the secret rules of a file of one's own, beside the built-in ones."""
    sizes = _QUICK_SECRET_RULES if quick else _SECRET_RULES
    text = mixed(_TEXT_CHARS)
    chats = {
        "a prompt of 16 KB": small_answer(prompt_of([text])),
        "an answer of 16 KB of text, streamed": small_prompt(EVENTS, streamed(text)),
    }
    async with _gateways(folder, {size: _with_secret_rules(folder, size) for size in sizes}) as ways:
        return {
            name: Curve(await _of_exchanges(ways, sizes, chat, 2, 1e3, quick=quick)) for name, chat in chats.items()
        }


def _with_secret_rules(folder: Path, size: int) -> dict[str, Any]:
    """Return the settings for a file with so many rules: half of them by a keyword, half by a beginning."""
    file = folder / f"secrets-{size}.yaml"
    ways = (
        r"(?i)\bservice{0:04}[_-]?key\s{{0,4}}[:=]\s{{0,4}}[\"']?([a-z0-9]{{24,40}})\b",
        r"\b(svc{0:04}_[A-Za-z0-9]{{32}})\b",
    )
    rules = [
        {"id": f"own.{number}", "name": f"own {number}", "pattern": ways[number % 2].format(number)}
        for number in range(size)
    ]
    file.write_text(json.dumps({"rules": rules}))
    sets = (("secrets", None), ("own", file))
    policy = MaskingPolicy(tuple(RuleSetPolicy(name, path, Action.MASK, Action.MASK) for name, path in sets))
    # Not in the folder, which goes: what is compiled is there for the next run, too.
    found = detector.load([RuleSet(*one) for one in sets], folder.parent / "growth-rules")
    return {"policy": replace(POLICY, masking=policy), "masking": Masking(found, policy, FINGERPRINTS)}


async def policy_rules(folder: Path, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU µs of an exchange against the rules of the policy, of which the last decides."""
    sizes = _QUICK_POLICY_RULES if quick else _POLICY_RULES
    chat, tool = small_answer(prompt_of(["Go on."])), small_prompt(EVENTS, called("print(1)"))
    rules = {size: {"policy": _policy(folder, size, 1)} for size in sizes}
    protections = {size: {"policy": _policy(folder, 1, size)} for size in sizes}
    async with _gateways(folder / "rules", rules) as ways, _gateways(folder / "protections", protections) as others:
        return {
            "rules about requests": Curve(await _of_exchanges(ways, sizes, chat, _SAMPLE, _MICRO, quick=quick)),
            "rules about files, one call of a tool": Curve(
                await _of_exchanges(others, sizes, tool, _SAMPLE // 8, _MICRO, quick=quick)
            ),
        }


def _policy(folder: Path, requests: int, files: int) -> Policy:
    """Return a policy with so many rules about requests, of which the last matches, and about files, of which none."""
    allow = {"effect": "allow"}
    about_requests: list[dict[str, Any]] = [
        {"id": f"model-{number}", "when": {"groups": ["developers"], "models": [f"model-{number}-*"]}, **allow}
        for number in range(requests - 1)
    ]
    about_requests.append({"id": "all-models", "when": {"groups": ["developers"], "endpoints": ["chat"]}, **allow})
    ask = {"effect": "require-approval", "approval": {"approvers": ["approvers"], "message": "Ask."}}
    about_files = [
        {"id": f"files-{number}", "when": {"files": [f"services/{number}/infra/**"]}, **ask} for number in range(files)
    ]
    file = folder / f"policy-{requests}-{files}.yaml"
    file.write_text(json.dumps({"version": 1, "credential": "github", "rules": about_requests + about_files}))
    return policy_file.load(file)


@asynccontextmanager
async def _gateways(folder: Path, settings: Mapping[int, Mapping[str, Any]]) -> AsyncIterator[dict[int, Gateway]]:
    async with AsyncExitStack() as stack:
        yield {
            size: await stack.enter_async_context(gateway(folder / f"spool-{size}", **changes))
            for size, changes in settings.items()
        }


async def _of_exchanges(
    ways: Mapping[int, Gateway], sizes: Sequence[int], chat: Chat, sample: int, unit: float, *, quick: bool
) -> list[Point]:
    """Measure an exchange through each of the gateways; `unit` is how many of the unit make a second."""
    tokens = {size: one.token("alice") for size, one in ways.items()}
    sessions = count()

    async def measure(size: float) -> float:
        one, token = ways[int(size)], tokens[int(size)]
        asked = [replace(chat, session=f"session {next(sessions)}") for _ in range(sample)]
        return await cpu(lambda: at_once([partial(one.ask, token, each) for each in asked])) / sample * unit

    return await measured(sizes, measure, _rounds(quick=quick))


# --- Principals ------------------------------------------------------------------------------------------------------


async def principals(folder: Path, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU µs of an exchange against the principals that were there, each with a token and a session."""
    again: list[Point] = []
    first: list[Point] = []
    random, kept = Random(_SEED), VerifierLimits().entries  # noqa: S311 - the same choice in every run
    async with gateway(folder) as one:
        tokens: list[str] = []

        async def newcomers(number: int) -> float:
            tokens.extend(one.token(f"subject {len(tokens) + at}") for at in range(number))
            return await cpu(lambda: _ask(one, tokens[-number:]))

        for size in _QUICK_PRINCIPALS if quick else _PRINCIPALS:
            if size > len(tokens):
                await newcomers(size - len(tokens))
            known = tokens[-kept // 2 :]
            taken = [
                await cpu(partial(_ask, one, random.choices(known, k=_SAMPLE))) for _ in range(_rounds(quick=quick))
            ]
            again.append(point(size, [each / _SAMPLE * _MICRO for each in taken]))
            if size >= _FIRST_FROM:
                taken = [await newcomers(_SAMPLE) for _ in range(_rounds(quick=quick))]
                first.append(point(size, [each / _SAMPLE * _MICRO for each in taken]))
    curves = {"an exchange of somebody known": Curve(again, promise=0)}
    # Of two sizes there is no telling.
    return curves | ({"somebody's first exchange": Curve(first, promise=0)} if len(first) > 2 else {})


async def _ask(one: Gateway, tokens: Sequence[str]) -> None:
    chat = small_answer(prompt_of(["Go on."]))
    works: list[Callable[[], Coroutine[Any, Any, None]]] = [partial(one.ask, token, chat) for token in tokens]
    await at_once(works)


# --- Open streams ----------------------------------------------------------------------------------------------------


async def open_streams(folder: Path, *, quick: bool) -> dict[str, Curve]:
    """Return the CPU µs of an event, and of a small exchange beside, against the streams that are open."""
    sizes = _QUICK_STREAMS if quick else _STREAMS
    said = events_of([{"content": piece} for piece in texts.pieces(mixed(50_000))])[:_STREAM_EVENTS]
    per_event: list[Point] = []
    beside: list[Point] = []
    async with gateway(folder) as one:
        token = one.token("alice")
        running: list[Exchange] = []
        passes = count()

        async def one_more(number: int) -> None:
            chat = Chat(prompt_of(["Go on."]), EVENTS, [], f"session {number}")
            running.append(await one.opened(token, chat))

        async def events() -> None:
            for _ in range(max(1, _STREAM_EVENTS // len(running))):
                # All go on in the same text, each from a place of its own.
                at = next(passes)
                for number, exchange in enumerate(running):
                    event = said[(at + number) % len(said)]
                    await one.drive(exchange, ResponseBody(event, end_of_stream=False))

        for size in sizes:
            await at_once([partial(one_more, number) for number in range(len(running), size)])
            sent = max(1, _STREAM_EVENTS // size) * size
            # The first is to warm up: what was opened just now has not said anything.
            taken = [await cpu(events) for _ in range(_rounds(quick=quick) + 1)][1:]
            per_event.append(point(size, [each / sent * _MICRO for each in taken]))
            taken = [await cpu(partial(_ask, one, [token] * _SAMPLE)) for _ in range(_rounds(quick=quick))]
            beside.append(point(size, [each / _SAMPLE * _MICRO for each in taken]))
        await at_once([partial(_end, one, exchange) for exchange in running])
    return {"an event": Curve(per_event, promise=0), "a small exchange beside": Curve(beside, promise=0)}


async def _end(one: Gateway, exchange: Exchange) -> None:
    for event in [*events_of([{}], "stop"), b"data: [DONE]\n\n"]:
        await one.drive(exchange, ResponseBody(event, end_of_stream=False))
    await one.drive(exchange, ResponseBody(b"", end_of_stream=True))
    if exchange.phase is not Phase.DONE:
        raise AssertionError("a stream did not end")
