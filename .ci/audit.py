"""What an advisory service knows against our pinned versions, from the JSON of pip-audit on standard input.

Exit code 1: there are advisories. 2: nothing is known of some packages, which pip-audit itself takes for success.
"""

from __future__ import annotations

import json
import sys


def main() -> int:
    try:
        found = json.load(sys.stdin)["dependencies"]
    except (ValueError, KeyError):
        print("the advisory service cannot be reached: nothing is known of any package", file=sys.stderr)
        return 2
    advisories = [(one, known) for one in found for known in one.get("vulns", ())]
    for one, known in advisories:
        fixed = ", ".join(known["fix_versions"]) or "no version"
        print(f"{one['name']} {one['version']}: {known['id']}, fixed in {fixed}")
    unknown = [one["name"] for one in found if "skip_reason" in one]
    if unknown or not found:
        print(
            f"the advisory service does not answer for {len(unknown)} of {len(found)} packages:"
            " nothing is known of these",
            file=sys.stderr,
        )
        return 1 if advisories else 2
    print(f"{len(found)} packages, {len(advisories)} advisories")
    return 1 if advisories else 0


if __name__ == "__main__":
    sys.exit(main())
