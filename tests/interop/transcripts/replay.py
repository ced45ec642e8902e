"""Replays what Apache's proxy 5.5.0 answered, case by case, against a proxy of ours.

  replay.py --endpoint HOST:PORT --stubs DIR [--mode merged|separated] [--only REGEX] [--all] [--workers N] [--access]

cases.jsonl holds the cases and Apache's answers. A case in not-yet.txt is about something the proxy does not do yet: it is
left out. A case in differences.txt differs on purpose: it fails when it no longer does. In separated mode, what fails is
played once more. The last line is "N passed, N failed".
--access replays access.jsonl and access-differences.txt instead: cases about users and their rights. With --record, the answers
of the server are written to the file.
"""
import argparse
import concurrent.futures
import json
import re
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def listed(file, mode, open_ended=False):
    """Patterns of case names, each with its reason: `name  # reason`, where * stands for anything. A pattern behind
    `merged:` or `separated:` counts in that mode of the proxy alone; behind `separated?:` it may hold or not."""
    out = []
    for line in (HERE / file).read_text().splitlines():
        pattern, _, reason = line.partition("#")
        only, _, pattern = pattern.strip().rpartition(":")
        if pattern:
            assert reason.strip(), f"{file}: {pattern} has no reason"
            assert only in ("", "merged", "separated", "merged?", "separated?"), f"{file}: {only} is no mode"
            if only in ((mode + "?",) if open_ended else ("", mode)):
                out.append(re.compile(re.escape(pattern.strip()).replace(r"\*", ".*") + "$"))
    return lambda name: any(pattern.match(name) for pattern in out)


def base36(n):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    return (base36(n // 36) if n >= 36 else "") + digits[n % 36]


def prepare(cases, run, admin):
    """Creates every topic and group of the cases."""
    from engine import real_name

    topics, groups = {}, {}
    for index, case in enumerate(cases):
        setup = case.get("setup", {"topics": {}, "groups": {}})
        names = {key: real_name(run, index, key, spec) for kind in ("topics", "groups") for key, spec in setup[kind].items()}
        for kind, made in (("topics", topics), ("groups", groups)):
            for key, spec in setup[kind].items():
                made[names[key]] = json.loads(re.sub(r"\{(\w+)\}", lambda m: names[m.group(1)], json.dumps(spec)))
    if topics or groups:
        admin.create(topics, groups)


def play_all(cases, target, workers):
    from engine import OBSERVED, play

    run = base36(int(time.time()))[-5:]
    bare = [{**c, "steps": [{k: v for k, v in s.items() if k not in OBSERVED} for s in c["steps"]]} for c in cases]
    prepare(bare, run, target.admin)
    slowest_first = sorted(range(len(cases)), key=lambda i: -cases[i].get("slow", 0))
    results = {}
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        jobs = {pool.submit(play, bare[i], run, i, target): i for i in slowest_first}
        for job in concurrent.futures.as_completed(jobs):
            results[jobs[job]] = job.result()
    return [results[i] for i in range(len(cases))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--stubs", required=True, help="folder of the Python stubs of the project's .proto files")
    parser.add_argument("--only", default="", help="only cases whose name matches")
    parser.add_argument("--mode", default="merged", choices=["merged", "separated"], help="what is behind the endpoint")
    parser.add_argument("--all", action="store_true", help="also what is listed as not done yet")
    parser.add_argument("--workers", type=int, default=24)
    parser.add_argument("--access", action="store_true", help="the cases about users and their rights")
    parser.add_argument("--record", action="store_true", help="write down what the server answers")
    parser.add_argument("--remoting", help="HOST:PORT for the remoting protocol, if it is another one")
    args = parser.parse_args()

    sys.path.insert(0, args.stubs)
    from admin import Admin
    from compare import decision, differences, visible
    from engine import Target

    record, differing = ("access.jsonl", "access-differences.txt") if args.access else ("cases.jsonl", "differences.txt")
    not_yet, on_purpose = listed("not-yet.txt", args.mode), listed(differing, args.mode)
    either = listed(differing, args.mode, open_ended=True)
    cases = [json.loads(line) for line in open(HERE / record)]
    chosen = [c for c in cases if re.search(args.only, c["name"]) and (args.all or not not_yet(c["name"]))]
    # Our handles are made otherwise: a case that forges Apache's says nothing.
    chosen = [c for c in chosen if not c.get("unstable") and not c.get("apache_handle")]
    target = Target(args.endpoint, Admin(args.endpoint), args.remoting)
    seen = play_all(chosen, target, args.workers)
    if args.record:
        answers = [[{k: v for k, v in step.items() if k not in ("ms", "wire")} for step in steps] for steps in seen]
        recorded = {case["name"]: {**case, "steps": steps} for case, steps in zip(chosen, answers)}
        lines = [json.dumps(recorded.get(case["name"], case), ensure_ascii=False) + "\n" for case in cases]
        (HERE / record).write_text("".join(lines))
        return

    def is_right(case, found):
        return bool(found) == on_purpose(case["name"]) or either(case["name"])

    compared = decision if args.access else visible
    different = [differences(case, case["steps"], observed, compared) for case, observed in zip(chosen, seen)]
    wrong = [i for i, case in enumerate(chosen) if not is_right(case, different[i])]
    if wrong and args.mode == "separated":
        # Brokers look at their queues at intervals of their own and share the machine with the tests. A fault of the proxy is
        # seen twice.
        print("played once more:", ", ".join(chosen[i]["name"] for i in wrong))
        for i, observed in zip(wrong, play_all([chosen[i] for i in wrong], target, args.workers)):
            different[i] = differences(chosen[i], chosen[i]["steps"], observed, compared)

    passed = failed = kept = 0
    for case, found in zip(chosen, different):
        if is_right(case, found):
            passed, kept = passed + 1, kept + on_purpose(case["name"])
            continue
        failed += 1
        why = "\n".join(found) or "  differs on purpose, says differences.txt, but it answers as Apache's does"
        print(f"FAILED {case['name']}: {case['shows']}\n{why}")
    print(f"{len(cases) - len(chosen)} of {len(cases)} cases left out: not done yet, unstable in the record, about Apache's handles, or not chosen")
    print(f"{kept} cases differ from Apache's on purpose")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
