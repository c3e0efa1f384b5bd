"""Measure what detection finds and what it takes for a secret: ours, the engine's own rules, and detect-secrets.

`python -m bench.detection` prints a table and one line of JSON. Recall is of made-up secrets in the providers' formats
(tests/masking/corpus.py): found means that every byte of the secret would be masked. False alarms are counted in the
sources of Python's standard library, its tests included, and of the installed packages. detect-secrets is compared
where it is installed, with its default plugins; being slow, it reads every tenth file.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import sysconfig
import tempfile
import timeit
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from kingfisher_sdk import _native

from extproc.masking.detector import CONFIDENCE, RuleSet, load
from tests.masking.corpus import Sample, harmless, samples

Span = tuple[str, int, int]
Scan = Callable[[bytes], list[Span]]

SEED = 20_240_501
REPEAT = 3
SIZES = (64, 1024, 65536)
_EVERY = {"detect-secrets": 10}


def _ours(cache: Path) -> Scan:
    detector = load([RuleSet("secrets")], cache)
    return lambda data: [(hit.rule, hit.start, hit.end) for hit in detector.scan(data)]


def _bare(cache: Path) -> Scan:
    rules = _native.Rules([], builtins=True, confidence=CONFIDENCE, cache_dir=str(cache))
    scanner = _native.Scanner(rules, base64=False, dedup=False, redact=False, min_entropy=None)

    def scan(data: bytes) -> list[Span]:
        found = [(one.rule_id, one.location) for one in scanner.scan_bytes(data) if one.visible]
        return [(rule, at["start_offset"], at["end_offset"]) for rule, at in found]

    return scan


def _detect_secrets(folder: Path) -> Scan:
    collection: Any = importlib.import_module("detect_secrets").SecretsCollection
    settings: Any = importlib.import_module("detect_secrets.settings").default_settings
    file = folder / "text.txt"

    def scan(data: bytes) -> list[Span]:
        file.write_bytes(data)
        secrets = collection()
        with settings():
            secrets.scan_file(str(file))
        # It tells values, not places; the first place of a value is meant.
        values = [(one.type, one.secret_value) for _, one in secrets]
        text = data.decode(errors="replace")
        return [(kind, at, at + len(value)) for kind, value in values if (at := text.find(value)) >= 0]

    return scan


def recall(scan: Scan, corpus: Iterable[Sample]) -> dict[str, Any]:
    """Return the share of secrets that are found whole, and how many of which provider and form are not."""
    total, missed = 0, Counter[str]()
    for sample in corpus:
        total += 1
        start = sample.text.index(sample.secret)
        wanted = set(range(start, start + len(sample.secret)))
        for _, begin, end in scan(sample.text.encode()):
            wanted -= set(range(begin, end))
        missed[f"{sample.provider}/{sample.form}"] += bool(wanted)
    return {"secrets": total, "recall": 1 - missed.total() / total, "missed": dict((+missed).most_common(8))}


def false_alarms(scan: Scan, files: Iterable[Path]) -> dict[str, Any]:
    """Return what is found in sources: the lines there are, the finds by rule, and the finds per 100,000 lines."""
    lines, rules = 0, Counter[str]()
    for file in files:
        data = file.read_bytes()
        lines += data.count(b"\n")
        rules.update(rule for rule, _, _ in scan(data))
    return {"lines": lines, "finds": dict(rules.most_common(8)), "per_100k": rules.total() / max(lines, 1) * 100_000}


def speed(scan: Scan) -> dict[str, float]:
    """Return the best time of a scan in µs by the size of the text, which is Python source."""
    source = (Path(sysconfig.get_path("stdlib")) / "argparse.py").read_bytes()
    times = {}
    for size in SIZES:
        number = 2_000_000 // (size + 1000)
        names = {"scan": scan, "text": source[:size]}
        times[f"us_{size}"] = min(timeit.repeat("scan(text)", globals=names, number=number, repeat=5)) / number * 1e6
    return times


def sources() -> dict[str, list[Path]]:
    """Return the files of the standard library and, as a sample that no rule was made by, of the installed packages."""
    library = Path(sysconfig.get_path("stdlib"))
    own = [file for file in library.rglob("*.py") if "site-packages" not in file.parts]
    return {"stdlib": sorted(own), "site-packages": sorted(Path(sysconfig.get_path("purelib")).rglob("*.py"))}


def main() -> None:
    """Measure each scanner and print the results."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as cache:
        scanners = {"ours": _ours(Path(cache)), "engine alone": _bare(Path(cache))}
        if importlib.util.find_spec("detect_secrets"):
            scanners["detect-secrets"] = _detect_secrets(Path(cache))
        for name, scan in scanners.items():
            every = _EVERY.get(name, 1)
            results[name] = {
                "recall": recall(scan, samples(SEED, 1 if every > 1 else REPEAT)),
                "harmless": sum(bool(scan(text.encode())) for text in harmless(SEED, REPEAT)),
                "false_alarms": {kind: false_alarms(scan, files[::every]) for kind, files in sources().items()},
                "speed": speed(scan) if every == 1 else {},
            }
    for name, result in results.items():
        alarms = ", ".join(
            f"{one['per_100k']:.2f} in {one['lines']:,} lines of {kind}" for kind, one in result["false_alarms"].items()
        )
        times = ", ".join(f"{key[3:]} bytes {value:.1f} µs" for key, value in result["speed"].items())
        print(f"{name:15} recall {result['recall']['recall']:.4f} of {result['recall']['secrets']}", end="; ")
        print(f"false alarms per 100,000 lines: {alarms}; of look-alikes: {result['harmless']}; {times}")
    json.dump(results, sys.stdout)
    print()


if __name__ == "__main__":
    main()
