#!/usr/bin/env bash
# Check the record folder that a pull request adds: the steps of the workflow check-records.yml, also on a laptop.
#
#   harness/review/check_pull_request.sh BASE [OUT]
#
# Run it inside a checkout of the repository with the records, at the pull request's head. BASE is a revision such as
# origin/main. OUT (default: check-report) gets report.txt, report.json and report.sarif.
# READINGS holds further readings, such as "eval_clock=sum code_bytes=shipped". PYTHON is the interpreter.
# Exit code: 0 good, 1 a rule is broken, 2 wrong usage, 3 could not check.
set -uo pipefail

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,10p' "$0" | cut -c3- >&2; exit 2; }
base=$1
out=${2:-check-report}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# It may lie in the checkout: no link that a pull request brings leads a report elsewhere.
[ ! -L "${out%/}" ] || { echo "$out is a symbolic link. Name another folder for the reports." >&2; exit 3; }
mkdir -p "$out" && rm -f -- "$out"/report.{txt,json,sarif} || exit 3

# The checker comes from here, never from the pull request: -P keeps the working folder off Python's path.
check() {
  PYTHONPATH=$root "${PYTHON:-python3}" -P -m harness check folder --changed-from "$base" --reading excerpt=refuse "$@"
}
readings=()
for setting in ${READINGS:-}; do readings+=(--reading "$setting"); done

check "${readings[@]}" --json --sarif "$out/report.sarif" > "$out/report.json"
code=$?
[ "$code" -le 1 ] || exit "$code"
check "${readings[@]}" > "$out/report.txt"
if [ -n "${GITHUB_ACTIONS:-}" ]; then
  check "${readings[@]}" --annotations
else
  cat "$out/report.txt"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
  { echo '```text'; tr '`' "'" < "$out/report.txt"; echo '```'; } >> "$GITHUB_STEP_SUMMARY"
fi
exit "$code"
