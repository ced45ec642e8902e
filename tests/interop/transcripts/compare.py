"""What counts as a difference between a recorded answer and one of ours."""
import difflib
import json
import re

# Texts that show the inside of a Java program: only that there is one counts.
JAVA_INSIDE = re.compile(r"Cannot invoke|No enum constant|NullPointerException|Exception\. [\w./]+\(\w+\.java|"
                         r"Parse failed, dataList|For input string|Index \d+ out of bounds")
JAVA_HEAD = re.compile(r"^(org|java)\.[\w.]+Exception: ")
JAVA_TAIL = re.compile(r"\.? ?(java|javax|org|com|io)\.[\w.$]+(Exception|Error)\b.*", re.S)


def loosen(value, other):
    """Makes the texts of two observations comparable: the names of Java's classes are dropped."""
    if isinstance(value, dict) and isinstance(other, dict):
        left, right = dict(value), dict(other)
        for k in value.keys() & other.keys():
            if k in ("message", "details") and isinstance(value[k], str) and isinstance(other[k], str):
                inside = JAVA_INSIDE.search(value[k])
                left[k], right[k] = ("<any>", "<any>") if inside else (bare(value[k]), bare(other[k]))
            else:
                left[k], right[k] = loosen(value[k], other[k])
        return left, right
    if isinstance(value, list) and isinstance(other, list):
        pairs = [loosen(a, b) for a, b in zip(value, other)]
        return [a for a, _ in pairs] + value[len(pairs):], [b for _, b in pairs] + other[len(pairs):]
    return value, other


def bare(text):
    return JAVA_TAIL.sub("", JAVA_HEAD.sub("", text)).strip()


def sorted_messages(answers):
    texts = sorted(re.sub(r"<handle:\d+>", "<handle>", json.dumps(a, sort_keys=True)) for a in answers)
    return [json.loads(t) for t in texts]


def visible(case, step):
    """The part of an observed step that must be equal."""
    seen = {k: step[k] for k in ("answers", "status", "error") if k in step}
    if case.get("sort_messages"):
        seen["answers"] = sorted_messages(seen.get("answers", []))
    return seen


# How a refusal of a classic client begins, if the reason is who it is or what it may.
ACCESS = re.compile(r"User:|username |check signature")
# The cases forge handles and ids, and send no settings: these codes also say that the request is allowed.
SERVED = ("OK", "INTERNAL_SERVER_ERROR", "INVALID_RECEIPT_HANDLE", "INVALID_TRANSACTION_ID")


def decision(case, step):
    """The part of an observed step about rights that must be equal: the refusal, or that there is none."""
    answers = []
    for answer in step.get("answers", []):
        if "status" not in answer:
            # Apache's proxy refuses classic clients with code 1, and its broker with 16, as ours does.
            remark = answer.get("remark") or ""
            answers.append(remark if ACCESS.match(remark) else "served")
        elif answer["status"].get("code") in SERVED:
            answers.append("served")
        else:
            answers.append(answer["status"])
    return {"answers": answers, **{k: step[k] for k in ("status", "error") if k in step}}


def late(ours, theirs):
    """Says when a timed step's interval is off by more than its tolerance (timed: true = 900 ms, or a number)."""
    key = "ms_since_mark" if "ms_since_mark" in ours and "ms_since_mark" in theirs else "ms"
    if not ours.get("timed") or key not in ours or key not in theirs:
        return None
    a, b, allowed = ours[key], theirs[key], 900 if ours["timed"] is True else ours["timed"]
    return f"{key}: {a} expected, {b} seen" if abs(a - b) > allowed else None


def differences(case, expected, observed, visible=visible):
    out = []
    for n, (a, b) in enumerate(zip(expected, observed), 1):
        want, got = loosen(visible(case, a), visible(case, b))
        left, right = (json.dumps(x, indent=1, sort_keys=True, ensure_ascii=False).splitlines() for x in (want, got))
        if left != right:
            diff = [line for line in difflib.unified_diff(left, right, lineterm="", n=1)
                    if not line.startswith(("---", "+++", "@@"))]
            out.append(f"  step {n} {a.get('rpc') or a.get('probe') or a.get('do')}:\n    " + "\n    ".join(diff[:24]))
        if late(a, b):
            out.append(f"  step {n} {late(a, b)}")
    return out
