# Merges the parts of each Job into one results file, and writes the reports of all of them.
#   merge.sh JOB...
# Ends with 0 if every test has a result and none failed, else with 1, or with 2 if there is nothing to report.
set -u
results=${RESULTS:-/results}
jobs=${JOBS:-/jobs}
out=$results/report-$JOB_UID
rm -rf "$out"
mkdir -p "$out" || exit 3
worst=0

for job in "$@"; do
    spyre-cb report "$results/$(cat "$jobs/$job")"/part-*.jsonl --results "$out/$job.jsonl" || worst=1
    # No part has reported, or the parts do not fit together: an empty file is a red line in the page.
    [ -f "$out/$job.jsonl" ] || : >"$out/$job.jsonl"
done
spyre-cb report "$out"/*.jsonl --html "$out/page.html" --junit "$out/junit.xml" --allure "$out/allure" \
    --markdown "$out/summary.md" --verdict
status=$?
[ "$status" -gt "$worst" ] && worst=$status
exit "$worst"
