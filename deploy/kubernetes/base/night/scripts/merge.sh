# Merges the parts of each Job into one results file, and writes the reports of all of them.
#   merge.sh JOB...
# Exit status: 0 if every test has a result and none failed, 1 otherwise, 2 if there is nothing to report.
set -u
results=${RESULTS:-/results}
jobs=${JOBS:-/jobs}
out=$results/report-$JOB_UID
rm -rf "$out"
mkdir -p "$out" || exit 3
worst=0

for job in "$@"; do
    spyre-cb report "$results/$(cat "$jobs/$job")"/part-*.jsonl --results "$out/$job.jsonl" || worst=1
    # If no part wrote results, or if the parts are not of one run, write an empty file: it becomes a red line in the page.
    [ -f "$out/$job.jsonl" ] || : >"$out/$job.jsonl"
done
spyre-cb report "$out"/*.jsonl --html "$out/page.html" --junit "$out/junit.xml" --allure "$out/allure" \
    --markdown "$out/summary.md" --verdict
status=$?
[ "$status" -gt "$worst" ] && worst=$status
exit "$worst"
